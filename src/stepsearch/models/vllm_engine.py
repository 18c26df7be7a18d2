"""Generation by vLLM inside the training process, over a copy of the policy's weights (docs/engines.md)."""

from itertools import count

import torch

from stepsearch.config import VLLMSettings
from stepsearch.errors import ModelError
from stepsearch.models.copied_policy_engine import CopiedPolicyEngine
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.vllm_process import VLLMProcess
from stepsearch.models.weight_check import has_arrived
from stepsearch.rollout.generation import Sampling, Segment


class VLLMEngine(CopiedPolicyEngine[str]):
    """Implements `rollout.GenerationEngine` by vLLM, whose prefix cache spares each turn the reading of earlier ones.

    Where the policy learns, the first submit of an engine at rest takes its weights over and checks that they have
    arrived; the last release gives a GPU's memory back.

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
        super().__init__(policy, max_length, dtype)
        self._learns = learns
        self._names = count()
        self._mends_head = False
        self._process = VLLMProcess(
            policy.causal_lm,
            settings,
            slots=slots,
            max_length=self._max_length,
            sleeps=learns and settings.sleep,
            dtype=self._dtype,
        )

    def step(self) -> list[Segment]:
        """Advance every active segment by a token, or by a part of what it has to read; return what finished.

        Raises:
            ModelError: the model's scores are not finite.
        """
        sampled = self._process.step() if self._open else ()
        ended = [name for name, ids, logprobs in sampled if name in self._open and self._take(name, ids, logprobs)]
        for name in ended:
            self._process.abort(name)
        return self._finish(ended)

    def _begin(self, context: list[int], sampling: Sampling) -> str:
        name = str(next(self._names))
        self._process.sample(name, context, sampling, self._end_ids)
        return name

    def _drop(self, job: str) -> None:
        self._process.abort(job)

    def _rest(self) -> None:
        self._process.sleep()

    def _match_policy(self) -> None:
        """Take over the policy's weights where vLLM's may be others, and make sure of it.

        Raises:
            ModelError: they have not arrived, and what is known to help does not.
        """
        has_weights = self._process.wake()
        if has_weights and not self._learns:
            return
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
        try:
            return super()._probe()
        finally:
            self._process.forget()
