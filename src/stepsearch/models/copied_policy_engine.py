"""Generation from a copy of the policy's weights that something else keeps: requests, segments and the copy's check."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import torch

from stepsearch.errors import ModelError
from stepsearch.models.held_requests import NOT_FINITE, HeldRequest, HeldRequests, longest_request
from stepsearch.models.open_segment import OpenSegment, Stops
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.weight_check import probe_gap, sample_probes
from stepsearch.rollout.generation import Sampling, Segment
from stepsearch.rollout.seeding import episode_seed

Job = TypeVar("Job", bound=Hashable)
"""By what the one that samples tells its segments apart."""


class CopiedPolicyEngine(ABC, Generic[Job]):
    """Implements `rollout.GenerationEngine`, but for the sampling itself.

    An engine that holds no request is at rest. The first submit after that makes sure of the copy; the last release
    lets it rest.

    Args:
        policy: whose weights are sampled from.
        max_length: tokens that a request may have; default: what the model's positions allow.
        dtype: that the copy computes in; default: the policy's.

    Raises:
        ModelError: `max_length` is more than the model has positions for.
    """

    def __init__(self, policy: StepSearchModel, max_length: int | None, dtype: torch.dtype | None) -> None:
        self._policy = policy
        self._dtype = policy.causal_lm.dtype if dtype is None else dtype
        self._max_length = longest_request(policy.causal_lm, max_length)
        self._stops = Stops.of(policy.causal_lm, policy.tokenizer)
        self._end_ids = sorted(self._stops.end_ids)
        self._held = HeldRequests(self._max_length)
        self._open: dict[Job, tuple[HeldRequest, OpenSegment]] = {}
        self._probing = False

    @property
    def active(self) -> int:
        """How many segments are being sampled or wait for their turn."""
        return len(self._open)

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        """Sample the next segment after `token_ids`, the request's whole context so far.

        Raises:
            ModelError: the context and the segment do not fit, or the copy is not the policy as it is now.
            ValueError: there is nothing to read or to sample, the request's last segment is not finished, or the
                context does not extend that of a held request.
        """
        if self._at_rest:
            self._match_policy()
        request = self._held.submit(request_id, token_ids, sampling)
        self._sample(request, OpenSegment(self._stops, sampling.max_tokens))

    @abstractmethod
    def step(self) -> list[Segment]:
        """Return the segments that have finished."""

    def release(self, request_id: int) -> None:
        """Forget a request; what is being sampled for it is dropped."""
        request = self._held.release(request_id)
        if request is None:
            return
        for job in [job for job, (sampled, _) in self._open.items() if sampled is request]:
            del self._open[job]
            self._drop(job)
        if self._at_rest:
            self._rest()

    @abstractmethod
    def _match_policy(self) -> None:
        """Make sure that what is sampled from is the policy as it is now.

        Raises:
            ModelError: it is not.
        """

    @abstractmethod
    def _begin(self, context: list[int], sampling: Sampling) -> Job:
        """Begin to sample after these token ids."""

    @abstractmethod
    def _drop(self, job: Job) -> None:
        """Sample no further for a job."""

    @abstractmethod
    def _rest(self) -> None:
        """Give back what an engine at rest does not need."""

    @property
    def _at_rest(self) -> bool:
        return not len(self._held) and not self._probing

    def _sample(self, request: HeldRequest, segment: OpenSegment) -> None:
        """Have what is left of a segment sampled."""
        context = [*request.context, *segment.token_ids]
        # A context grows with each turn, and so every turn has noise of its own.
        seed = episode_seed(request.sampling.seed, len(context))
        left = request.sampling.max_tokens - len(segment.token_ids)
        job = self._begin(context, replace(request.sampling, max_tokens=left, seed=seed))
        self._open[job] = request, segment

    def _take(self, job: Job, token_ids: Sequence[int], logprobs: Sequence[float]) -> bool:
        """Append to a job's segment what was sampled, and return whether it has ended.

        Raises:
            ModelError: the model's scores are not finite.
        """
        if not all(map(math.isfinite, logprobs)):
            raise ModelError(NOT_FINITE)
        _, segment = self._open[job]
        segment.take(token_ids, logprobs)
        return segment.end is not None

    def _finish(self, jobs: Iterable[Job]) -> list[Segment]:
        """Return the segments of jobs that have ended, in order of submission."""
        finished = sorted((self._open.pop(job) for job in jobs), key=lambda pair: pair[0].order)
        return [request.finish(part.token_ids, part.logprobs, part.end) for request, part in finished if part.end]

    def _probe(self) -> float:
        """Return how far the copy's log-probabilities are from the policy's, in the mean."""
        vocabulary = int(self._policy.causal_lm.config.get_text_config().vocab_size)
        self._probing = True
        try:
            return probe_gap(self._policy, sample_probes(self, vocabulary, self._max_length))
        finally:
            self._probing = False
