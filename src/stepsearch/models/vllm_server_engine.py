"""Generation by a vLLM server, on this machine or another (docs/engines.md)."""

import math
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

import torch

from stepsearch.config import VLLMSettings
from stepsearch.errors import ModelError
from stepsearch.models.held_requests import NOT_FINITE, HeldRequest, HeldRequests, longest_request
from stepsearch.models.open_segment import OpenSegment, Stops
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.vllm_server import Completion, VLLMServer
from stepsearch.models.weight_check import has_arrived, probe_gap, sample_probes
from stepsearch.rollout.generation import Sampling, Segment
from stepsearch.rollout.seeding import episode_seed

# After so long a step returns without a finished segment, so that search results are handed on meanwhile.
_STEP_SECONDS = 0.02


class VLLMServerEngine:
    """Implements `rollout.GenerationEngine` by a server that samples whole segments, some at the same time.

    What finishes first comes first: episodes are the same in every run, but not which of them are sampled together.
    An engine that holds no request is at rest, and its first submit after that hands the policy's weights over, as
    `VLLMEngine` does.

    Args:
        policy: whose weights are sampled from.
        settings: the server.
        slots: requests sampled at the same time; further ones wait.
        max_length: tokens that a request may have; default: what the model's positions allow.
        learns: whether the policy's weights change while the engine lives.
        dtype: that the server computes in; default: the policy's.

    Raises:
        ModelError: no server answers, or it takes shorter contexts than `max_length`.
        ConfigError: the policy learns, and the server takes no weights.
    """

    def __init__(
        self,
        policy: StepSearchModel,
        settings: VLLMSettings,
        *,
        slots: int,
        max_length: int | None = None,
        learns: bool = True,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._policy = policy
        self._learns = learns
        self._dtype = policy.causal_lm.dtype if dtype is None else dtype
        self._max_length = longest_request(policy.causal_lm, max_length)
        self._server = VLLMServer(settings, slots)
        if self._server.max_length is not None and self._server.max_length < self._max_length:
            raise ModelError(
                f"the vLLM server at {settings.url} takes {self._server.max_length} tokens, fewer than "
                f"model.max_length={self._max_length}: start it with --max-model-len {self._max_length}"
            )
        if learns:
            self._server.forget()  # Says now whether it takes weights.
        self._vocabulary = int(policy.causal_lm.config.get_text_config().vocab_size)
        self._stops = Stops.of(policy.causal_lm, policy.tokenizer)
        self._ends = sorted(self._stops.end_ids)
        self._held = HeldRequests(self._max_length)
        self._asked: dict[Future[Completion], tuple[HeldRequest, OpenSegment]] = {}
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="vllm")
        self._at_rest, self._probing, self._is_checked = True, False, False

    @property
    def active(self) -> int:
        """How many segments are being sampled or wait for a connection."""
        return len(self._asked)

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        """Sample the next segment after `token_ids`, the request's whole context so far.

        Raises:
            ModelError: the context and the segment do not fit, or the policy's weights could not be handed over.
            ValueError: there is nothing to read or to sample, the request's last segment is not finished, or the
                context does not extend that of a held request.
        """
        if self._at_rest:
            self._rouse()
        request = self._held.submit(request_id, token_ids, sampling)
        self._ask(request, OpenSegment(self._stops, sampling.max_tokens))

    def step(self) -> list[Segment]:
        """Wait a moment for segments to finish; return those that have.

        Raises:
            ModelError: the model's scores are not finite, or the server does not answer.
        """
        answered, _ = wait(self._asked, timeout=_STEP_SECONDS, return_when=FIRST_COMPLETED)
        finished: list[tuple[HeldRequest, OpenSegment]] = []
        for answer in answered:
            request, segment = self._asked.pop(answer)
            completion = answer.result()
            if not all(map(math.isfinite, completion.logprobs)):
                raise ModelError(NOT_FINITE)
            segment.take(completion.token_ids, completion.logprobs)
            if segment.end is None:
                # The server saw a tag in text that the tokens, exactly read, do not spell.
                self._ask(request, segment)
            else:
                finished.append((request, segment))
        finished.sort(key=lambda pair: pair[0].order)
        return [request.finish(part.token_ids, part.logprobs, part.end) for request, part in finished if part.end]

    def release(self, request_id: int) -> None:
        """Forget a request; what the server is sampling for it is dropped."""
        request = self._held.release(request_id)
        if request is None:
            return
        for answer in [answer for answer, (asked, _) in self._asked.items() if asked is request]:
            del self._asked[answer]
            answer.cancel()
        self._at_rest = not len(self._held) and not self._probing

    def _ask(self, request: HeldRequest, segment: OpenSegment) -> None:
        """Ask for what is left of a segment."""
        context = [*request.context, *segment.token_ids]
        sampling = request.sampling
        left = replace(sampling, max_tokens=sampling.max_tokens - len(segment.token_ids))
        # A context grows with each turn, and so every turn has noise of its own.
        seed = episode_seed(sampling.seed, len(context))
        self._asked[self._threads.submit(self._server.complete, context, left, seed, self._ends)] = request, segment

    def _rouse(self) -> None:
        """Make sure that the server samples from the policy as it is now.

        Raises:
            ModelError: it does not.
        """
        if self._learns:
            self._server.load(dict(self._policy.weights()))
        if self._learns or not self._is_checked:
            gap = self._probe()
            if not has_arrived(gap, self._dtype):
                raise ModelError(
                    f"the vLLM server does not sample from the policy: its log-probabilities are off by {gap:.3g} in "
                    f"the mean; start it on the policy's own folder with --dtype {str(self._dtype)[6:]} "
                    "--logprobs-mode processed_logprobs (docs/engines.md), or set rollout.engine=in_process"
                )
            self._is_checked = True
        self._at_rest = False

    def _probe(self) -> float:
        """Return how far the server's log-probabilities are from the policy's."""
        self._probing, self._at_rest = True, False
        try:
            return probe_gap(self._policy, sample_probes(self, self._vocabulary, self._max_length))
        finally:
            self._probing, self._at_rest = False, True
