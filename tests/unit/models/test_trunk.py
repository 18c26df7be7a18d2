"""Reading ragged rows without their padding is reading them one by one."""

import pytest
import torch

from stepsearch.models import trunk
from stepsearch.models.trunk import hidden_before

KINDS = {"Qwen2": {}, "Mistral": {"sliding_window": 4}, "Gemma3Text": {"head_dim": 8, "sliding_window": 4}, "GPT2": {}}


@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_are_read_as_if_each_stood_alone(kind, random_policy, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = random_policy(50, kind, **KINDS[kind]).eval().get_decoder()
    input_ids = torch.randint(0, 50, (4, 12), generator=torch.Generator().manual_seed(0))
    chosen = torch.zeros(4, 11, dtype=torch.bool)
    chosen[0, 2:] = True
    chosen[1, [3, 4, 7]] = True
    chosen[3, 0] = True  # The third row has nothing to predict.
    # transformers' sdpa understands packed rows too, if slowly: what differs on a CPU is the kernel alone.
    read: list[int] = []
    decoder.register_forward_pre_hook(lambda *given: read.append(given[2]["input_ids"].numel()), with_kwargs=True)
    padded = hidden_before(decoder, input_ids, chosen)
    monkeypatch.setattr(trunk, "_FOR_RAGGED_ROWS", ("sdpa", "eager"))
    packed = hidden_before(decoder, input_ids, chosen)
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-5)
    rows = [decoder(input_ids=input_ids[row : row + 1]).last_hidden_state[0, :-1][chosen[row]] for row in range(4)]
    torch.testing.assert_close(packed, torch.cat(rows), rtol=0, atol=1e-5)
    # Up to the last token from which one is predicted: 11, 8, 1 and 1 of 12 each.
    assert read[:2] == [48, 21]
