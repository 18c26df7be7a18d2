"""The reader with a row per slot, on a CPU: flash attention's kernel, which there is none of, is spelled out here."""

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from stepsearch.models.kv_pools import shape_of
from stepsearch.models.packed_forward import LayeredForward, WholeForward
from stepsearch.models.packed_step import Chunk, Reading
from stepsearch.models.reader_check import largest_error
from stepsearch.models.row_reader import RowReader

SLOTS, VOCABULARY = 5, 60


def sequence_by_sequence(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa, seqused_k
):
    """Attend as `varlen_attn` is documented to, one sequence at a time."""
    attended = torch.full_like(query, torch.nan)  # What no sequence asks for is no number.
    if window_size == (-1, -1):
        assert len(query) == len(seqused_k)
    for row, used in enumerate(seqused_k.tolist()):
        first, last = cu_seq_q[row], cu_seq_q[row + 1]
        new = int(last - first)
        assert new <= max_q
        assert used <= max_k
        if window_size == (-1, -1):
            assert new == 1  # Else a token would see later ones.
        keys = slice(int(cu_seq_k[row]), int(cu_seq_k[row]) + used)
        mask = torch.arange(used) <= torch.arange(used - new, used)[:, None]
        attended[first:last] = scaled_dot_product_attention(
            query[first:last].transpose(0, 1),
            key[keys].transpose(0, 1),
            value[keys].transpose(0, 1),
            attn_mask=mask,
            scale=scale,
            enable_gqa=enable_gqa,
        ).transpose(0, 1)
    return attended


@pytest.fixture(params=["Qwen2", "Qwen3", "Olmo2"])
def causal_lm(request, random_policy):
    options = {"head_dim": 16} if request.param == "Qwen3" else {}
    return random_policy(VOCABULARY, request.param, **options).eval()


def row_reader(causal_lm):
    forward = WholeForward if "Olmo2" in type(causal_lm).__name__ else LayeredForward
    return RowReader(
        SLOTS, shape_of(causal_lm), forward(causal_lm, 1024), 300, kernel=sequence_by_sequence, capture=False
    )


@torch.no_grad()
def test_it_agrees_with_the_model(causal_lm):
    assert largest_error(causal_lm, row_reader(causal_lm), SLOTS, VOCABULARY) < 1e-5


@torch.no_grad()
def test_slots_that_wait_and_rows_that_grow_keep_what_they_hold(causal_lm):
    draw = np.random.default_rng(0)
    reader = row_reader(causal_lm)
    contexts = {slot: draw.integers(0, VOCABULARY, size=length) for slot, length in enumerate((3, 250, 40, 9))}
    taken = dict.fromkeys(contexts, 0)

    def check(slots, chunks):
        """Read the next token of some slots and the next so many of others; compare with fresh passes."""
        singles = np.array([contexts[slot][taken[slot]] for slot in slots], dtype=np.int64)
        parts = [Chunk(slot, contexts[slot][taken[slot] : taken[slot] + size], sample) for slot, size, sample in chunks]
        logits = reader.read(Reading(np.array(slots, dtype=np.int64), singles, parts))
        for slot in slots:
            taken[slot] += 1
        for slot, size, _ in chunks:
            taken[slot] += size
        wanted = [*slots, *(slot for slot, _, sample in chunks if sample)]
        assert len(logits) == len(wanted)
        for row, slot in enumerate(wanted):
            ids = torch.from_numpy(contexts[slot][: taken[slot]])[None]
            torch.testing.assert_close(logits[row], causal_lm(input_ids=ids).logits[0, -1], atol=1e-4, rtol=0)

    check([], [(2, 30, False), (0, 2, True)])
    check([0], [(1, 245, True), (2, 5, True)])
    check([2, 1], [])  # Slot 0 waits, at the end of what it holds.
    check([1], [])
    contexts[0] = np.concatenate([contexts[0], draw.integers(0, VOCABULARY, size=300)])
    check([1, 2], [(0, 299, True)])  # Longer than a row.
    check([0, 2], [(3, 9, True)])


def test_memory_is_let_go_when_nothing_is_held(causal_lm):
    reader = row_reader(causal_lm)
    reader.reserve(3, 10)
    assert reader._rows.shape[1] == SLOTS * 300 + 1
    reader.reserve(1, 301)

    assert reader._rows.shape[1] == SLOTS * 512 + 1
    reader.free(3)
    assert reader._rows.shape[1] == SLOTS * 512 + 1
    reader.free(1)
    assert reader._rows.numel() == 0
