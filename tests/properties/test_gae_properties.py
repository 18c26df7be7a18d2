import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepsearch.training.advantages import masked_gae

NUMBERS = st.floats(-3, 3, width=32)


def plain_gae(rewards: list[float], values: list[float], gamma: float, gae_lambda: float) -> list[float]:
    """The recursion as the paper has it, over a list without gaps."""
    advantages = [0.0] * len(rewards)
    running = following = 0.0
    for t in reversed(range(len(rewards))):
        running = rewards[t] + gamma * following - values[t] + gamma * gae_lambda * running
        following = values[t]
        advantages[t] = running
    return advantages


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    cells = st.lists(NUMBERS, min_size=columns, max_size=columns)
    bits = st.lists(st.integers(0, 1), min_size=columns, max_size=columns)
    rewards, values = (draw(st.lists(cells, min_size=rows, max_size=rows)) for _ in range(2))
    mask = draw(st.lists(bits, min_size=rows, max_size=rows))
    return torch.tensor(rewards).double(), torch.tensor(values).double(), torch.tensor(mask)


@settings(deadline=None)
@given(batches(), st.floats(0, 1), st.floats(0, 1))
def test_masked_gae_is_plain_gae_on_the_compacted_sequence(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], gamma: float, gae_lambda: float
) -> None:
    rewards, values, mask = batch
    result = masked_gae(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)
    for row, chosen in enumerate(mask.bool()):
        expected = plain_gae(rewards[row][chosen].tolist(), values[row][chosen].tolist(), gamma, gae_lambda)
        torch.testing.assert_close(result.advantages[row][chosen].tolist(), expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(
            result.returns[row][chosen], result.advantages[row][chosen] + values[row][chosen], rtol=0, atol=0
        )
    assert not result.advantages[mask == 0].any()
    assert not result.returns[mask == 0].any()
