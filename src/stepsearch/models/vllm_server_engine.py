"""Generation by a vLLM server, on this machine or another (docs/engines.md)."""

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import torch

from stepsearch.config import VLLMSettings
from stepsearch.errors import ModelError
from stepsearch.models.copied_policy_engine import CopiedPolicyEngine
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.vllm_server import Completion, VLLMServer
from stepsearch.models.weight_check import has_arrived
from stepsearch.rollout.generation import Sampling, Segment

# After so long a step returns without a finished segment, so that search results are handed on meanwhile.
_STEP_SECONDS = 0.02


class VLLMServerEngine(CopiedPolicyEngine[Future[Completion]]):
    """Implements `rollout.GenerationEngine` by a server that samples whole segments, some at the same time.

    What finishes first comes first: episodes are the same in every run, but not which of them are sampled together.
    Where the policy learns, the first submit of an engine at rest hands its weights over.

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
        super().__init__(policy, max_length, dtype)
        self._learns = learns
        self._server = VLLMServer(settings, slots)
        if self._server.max_length is not None and self._server.max_length < self._max_length:
            raise ModelError(
                f"the vLLM server at {settings.url} takes {self._server.max_length} tokens, fewer than "
                f"model.max_length={self._max_length}: start it with --max-model-len {self._max_length}"
            )
        if learns:
            self._server.forget()  # Says now whether it takes weights.
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="vllm")
        self._is_checked = False

    def step(self) -> list[Segment]:
        """Wait a moment for segments to finish; return those that have.

        Raises:
            ModelError: the model's scores are not finite, or the server does not answer.
        """
        answered, _ = wait(self._open, timeout=_STEP_SECONDS, return_when=FIRST_COMPLETED)
        ended: list[Future[Completion]] = []
        for answer in answered:
            completion = answer.result()
            if self._take(answer, completion.token_ids, completion.logprobs):
                ended.append(answer)
            else:
                # The server saw a tag in text that the tokens, exactly read, do not spell.
                self._sample(*self._open.pop(answer))
        return self._finish(ended)

    def _begin(self, context: list[int], sampling: Sampling) -> Future[Completion]:
        return self._threads.submit(self._server.complete, context, sampling, self._end_ids)

    def _drop(self, job: Future[Completion]) -> None:
        job.cancel()

    def _rest(self) -> None:
        """Do nothing: the server's memory is its own."""

    def _match_policy(self) -> None:
        """Hand the policy's weights over where it learns, and make sure that the server samples from it.

        Raises:
            ModelError: it does not.
        """
        if self._learns:
            self._server.load(dict(self._policy.weights()))
        elif self._is_checked:
            return
        gap = self._probe()
        if not has_arrived(gap, self._dtype):
            raise ModelError(
                f"the vLLM server does not sample from the policy: its log-probabilities are off by {gap:.3g} in the "
                f"mean; start it on the policy's own folder with --dtype {str(self._dtype).removeprefix('torch.')} "
                "--logprobs-mode processed_logprobs (docs/engines.md), or set rollout.engine=in_process"
            )
        self._is_checked = True
