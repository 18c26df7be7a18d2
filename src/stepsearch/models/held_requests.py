"""What an engine knows of its requests, and which ones it refuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import nn

from stepsearch.errors import ModelError
from stepsearch.rollout.generation import Sampling, Segment, SegmentEnd

NOT_FINITE = (
    "the model's scores are not finite: its weights are damaged, or training has diverged; go back to an earlier "
    "model, and lower training.learning_rate"
)
_UNBOUNDED = 1 << 20


@dataclass(slots=True, eq=False)
class HeldRequest:
    """A request between its first submit and its release.

    Attributes:
        id: the caller's.
        context: every token so far, sampled ones included.
        sampling: of the segment being sampled.
        order: number of the submit, which orders what finishes together.
        busy: a segment is waited for.
    """

    id: int
    context: list[int]
    sampling: Sampling
    order: int
    busy: bool = True

    def finish(self, token_ids: list[int], logprobs: list[float], end: SegmentEnd) -> Segment:
        """Note what was sampled, and return it as a segment."""
        self.context.extend(token_ids)
        self.busy = False
        return Segment(self.id, token_ids, logprobs, end)


class HeldRequests:
    """The requests that are held, by id.

    Args:
        max_length: tokens that a request may have.
    """

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._requests: dict[int, HeldRequest] = {}
        self._orders = count()

    def __len__(self) -> int:
        return len(self._requests)

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> HeldRequest:
        """Return the request, which is now busy with the segment after `token_ids`.

        Raises:
            ModelError: the context and the segment are longer than a request may be.
            ValueError: there is nothing to read or to sample, the request's last segment is not finished, or the
                context does not extend that of a held request.
        """
        check_size(request_id, len(token_ids), sampling.max_tokens, self._max_length)
        held = self._requests.get(request_id)
        if held is not None:
            check_extension(request_id, held.context, held.busy, token_ids)
        request = HeldRequest(request_id, list(token_ids), sampling, next(self._orders))
        self._requests[request_id] = request
        return request

    def release(self, request_id: int) -> HeldRequest | None:
        """Forget a request and return it; None if there is none of that id."""
        return self._requests.pop(request_id, None)


def check_size(request_id: int, tokens: int, max_tokens: int, max_length: int) -> None:
    """Refuse a segment that cannot be sampled.

    Raises:
        ModelError: the context and the segment are longer than a request may be.
        ValueError: there is nothing to read or to sample.
    """
    if tokens + max_tokens > max_length:
        raise ModelError(
            f"a context of {tokens} tokens and {max_tokens} to sample are more than the engine's {max_length}: lower "
            "model.max_length or the rollout's budgets"
        )
    if not tokens or max_tokens < 1:
        raise ValueError(f"request {request_id} has nothing to read or to sample")


def check_extension(request_id: int, context: Sequence[int], busy: bool, token_ids: Sequence[int]) -> None:
    """Refuse a further segment of a held request that does not follow its last one.

    Raises:
        ValueError: the last segment is not finished, or the new context does not extend the old one.
    """
    if busy:
        raise ValueError(f"request {request_id} is still being sampled")
    if list(token_ids[: len(context)]) != list(context):
        raise ValueError(f"request {request_id} is held, and its new context does not extend the old one")


def longest_request(causal_lm: nn.Module, max_length: int | None) -> int:
    """Return how many tokens a request may have: `max_length`, or all that the model has positions for.

    Raises:
        ModelError: `max_length` is more than the model has positions for.
    """
    config: Any = causal_lm.config
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if max_length is None:
        return positions or _UNBOUNDED
    if positions is not None and max_length > positions:
        raise ModelError(f"model.max_length={max_length} is more than the model's {positions} positions: lower it")
    return max_length
