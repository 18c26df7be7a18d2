"""The check that an engine's copy of the policy's weights has arrived."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor

from stepsearch.errors import ModelError
from stepsearch.models.held_requests import NOT_FINITE
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.rollout.generation import GenerationEngine, Sampling, Segment

# Enough to show every row of the weights that matters, and few enough to cost nothing.
PROBES, PROBE_CONTEXT, PROBE_TOKENS = 4, 16, 8
# Not 1, so that an engine shows whether its log-probabilities are those of the distribution that it samples from.
PROBE_TEMPERATURE = 1.3
# Kernels of equal precision agree to 1e-5 in 32 bits; in 16 bits they differ by some hundredths in the mean. Weights
# that have not arrived are off by far more: an engine begins with random ones.
TOLERANCE = {torch.float32: 1e-3}
TOLERANCE_OF_16_BITS = 0.1


def sample_probes(engine: GenerationEngine, vocabulary: int, max_length: int) -> list[tuple[list[int], Segment]]:
    """Return what an idle engine samples after some fixed contexts: pairs of context and segment."""
    length = min(PROBE_CONTEXT, max_length - PROBE_TOKENS)
    contexts = np.random.default_rng(0).integers(vocabulary, size=(PROBES, length)).tolist()
    segments: list[Segment] = []
    try:
        for number, context in enumerate(contexts):
            engine.submit(number, context, Sampling(PROBE_TOKENS, seed=number, temperature=PROBE_TEMPERATURE))
        while engine.active:
            segments += engine.step()
    finally:
        for number in range(PROBES):
            engine.release(number)
    return [(contexts[segment.request_id], segment) for segment in segments]


@torch.no_grad()
def probe_gap(policy: StepSearchModel, probes: Sequence[tuple[list[int], Segment]]) -> float:
    """Return how far the probes' log-probabilities are from the policy's own, in the mean over their tokens.

    Raises:
        ModelError: either are no numbers.
    """
    gaps: list[Tensor] = []
    for context, segment in probes:
        ids = torch.tensor([[*context, *segment.token_ids]], device=policy.causal_lm.device)
        mask = torch.zeros_like(ids)
        mask[:, len(context) :] = 1
        own = cast(Tensor, policy(ids, mask, PROBE_TEMPERATURE, False).logprobs)[0, len(context) :].float().cpu()
        gaps.append((own - torch.tensor(segment.logprobs)).abs())
    gap = float(torch.cat(gaps).mean())
    if not np.isfinite(gap):
        raise ModelError(NOT_FINITE)
    return gap


def has_arrived(gap: float, dtype: torch.dtype) -> bool:
    """Return whether an engine that computes in `dtype`, and is so far from the policy, has its weights."""
    return gap <= TOLERANCE.get(dtype, TOLERANCE_OF_16_BITS)
