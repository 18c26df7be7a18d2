"""What an engine samples, held against the policy that it samples from."""

from typing import Any

import torch

from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.rollout.generation import GenerationEngine, Sampling, Segment

CONTEXT = 12


def sample(engine: GenerationEngine, count: int = 6, **sampling: Any) -> list[tuple[list[int], Segment]]:
    """Return `count` contexts with the segment that was sampled after each."""
    contexts = [list(range(3 + number, 3 + number + CONTEXT)) for number in range(count)]
    for number, context in enumerate(contexts):
        engine.submit(number, context, Sampling(20, seed=number, **sampling))
    segments: list[Segment] = []
    while engine.active:
        segments += engine.step()
    for number in range(count):
        engine.release(number)
    return [(contexts[segment.request_id], segment) for segment in segments]


@torch.no_grad()
def largest_gap(policy: StepSearchModel, sampled: list[tuple[list[int], Segment]], temperature: float = 1.0) -> float:
    """Return how far the segments' log-probabilities are at most from those of a fresh forward pass."""
    gaps: list[float] = []
    for context, segment in sampled:
        ids = torch.tensor([[*context, *segment.token_ids]])
        mask = torch.zeros_like(ids)
        mask[:, len(context) :] = 1
        own = policy(ids, mask, temperature, False).logprobs[0, len(context) :]
        gaps.append(float((own - torch.tensor(segment.logprobs)).abs().max()))
    return max(gaps)


def learn(policy: StepSearchModel) -> None:
    """Change all weights that learn, in place, as an optimiser does."""
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
