"""Generation by vLLM inside the training process, over a copy of the policy's weights (docs/engines.md)."""

import math
from collections.abc import Sequence
from itertools import count

import torch

from stepsearch.config import VLLMSettings
from stepsearch.errors import ModelError
from stepsearch.models.held_requests import NOT_FINITE, HeldRequest, HeldRequests, longest_request
from stepsearch.models.open_segment import OpenSegment, Stops
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.vllm_process import VLLMProcess
from stepsearch.models.weight_check import has_arrived, probe_gap, sample_probes
from stepsearch.rollout.generation import Sampling, Segment
from stepsearch.rollout.seeding import episode_seed


class VLLMEngine:
    """Implements `rollout.GenerationEngine` by vLLM, whose prefix cache spares each turn the reading of earlier ones.

    An engine that holds no request is at rest. The first submit after that takes over the policy's weights, if the
    policy learns, and checks that they have arrived; the last release gives a GPU's memory back.

    Args:
        policy: whose weights are sampled from.
        settings: memory.
        slots: requests sampled at the same time; further ones wait.
        max_length: tokens that a request may have; default: what the model's positions allow.
        learns: whether the policy's weights change while the engine lives, on the same device.
        dtype: of vLLM's copy of the weights; default: the policy's.

    Raises:
        ConfigError: vLLM does not start in this environment.
        ModelError: `max_length` is more than the model has positions for, or vLLM cannot run the model here.
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
        self._vocabulary = int(policy.causal_lm.config.get_text_config().vocab_size)
        self._stops = Stops.of(policy.causal_lm, policy.tokenizer)
        self._held = HeldRequests(self._max_length)
        self._sampling: dict[str, tuple[HeldRequest, OpenSegment]] = {}
        self._names = count()
        self._at_rest, self._probing, self._mends_head = True, False, False
        self._process = VLLMProcess(
            policy.causal_lm,
            settings,
            slots=slots,
            max_length=self._max_length,
            sleeps=learns and settings.sleep,
            dtype=self._dtype,
        )

    @property
    def active(self) -> int:
        """How many segments are being sampled or wait for a slot."""
        return len(self._sampling)

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        """Sample the next segment after `token_ids`, the request's whole context so far.

        Raises:
            ModelError: the context and the segment do not fit, or the policy's weights could not be taken over.
            ValueError: there is nothing to read or to sample, the request's last segment is not finished, or the
                context does not extend that of a held request.
        """
        if self._at_rest:
            self._rouse()
        request = self._held.submit(request_id, token_ids, sampling)
        name = str(next(self._names))
        self._sampling[name] = request, OpenSegment(self._stops, sampling.max_tokens)
        # A context grows with each turn, and so every turn has noise of its own.
        seed = episode_seed(sampling.seed, len(token_ids))
        self._process.sample(name, request.context, sampling, seed, sorted(self._stops.end_ids))

    def step(self) -> list[Segment]:
        """Advance every active segment by a token, or by a part of what it has to read; return what finished.

        Raises:
            ModelError: the model's scores are not finite.
        """
        finished: list[tuple[HeldRequest, OpenSegment]] = []
        for name, token_ids, logprobs in self._process.step() if self._sampling else ():
            if name not in self._sampling:
                continue
            if not all(map(math.isfinite, logprobs)):
                raise ModelError(NOT_FINITE)
            _, segment = self._sampling[name]
            segment.take(token_ids, logprobs)
            if segment.end is not None:
                finished.append(self._sampling.pop(name))
                self._process.abort(name)
        finished.sort(key=lambda pair: pair[0].order)
        return [request.finish(part.token_ids, part.logprobs, part.end) for request, part in finished if part.end]

    def release(self, request_id: int) -> None:
        """Forget a request and free its memory."""
        request = self._held.release(request_id)
        if request is None:
            return
        for name in [name for name, (sampled, _) in self._sampling.items() if sampled is request]:
            del self._sampling[name]
            self._process.abort(name)
        if not len(self._held) and not self._probing:
            self._at_rest = True
            self._process.sleep()

    def _rouse(self) -> None:
        """Be ready to sample from the policy as it is now."""
        has_weights = self._process.wake()
        if self._learns or not has_weights:
            self._take_weights()
        self._at_rest = False

    def _take_weights(self) -> None:
        """Take over the policy's weights, and make sure of it.

        Raises:
            ModelError: they have not arrived, and what is known to help does not.
        """
        self._process.load(dict(self._policy.weights()))
        if self._mends_head:
            self._process.mend_head()
        gap = self._probe()
        if not has_arrived(gap, self._dtype) and not self._mends_head:
            self._mends_head = True
            self._process.mend_head()
            gap = self._probe()
        if not has_arrived(gap, self._dtype):
            raise ModelError(
                f"vLLM has not taken over the weights of the policy, a {type(self._policy.causal_lm).__name__}: its "
                f"log-probabilities are off by {gap:.3g} in the mean; set rollout.engine=in_process"
            )

    def _probe(self) -> float:
        """Return how far the engine's log-probabilities are from the policy's."""
        self._probing, self._at_rest = True, False
        try:
            return probe_gap(self._policy, sample_probes(self, self._vocabulary, self._max_length))
        finally:
            self._probing, self._at_rest = False, True
            self._process.forget()
