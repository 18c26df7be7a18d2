"""vLLM's own engine inside this process: started, fed with token ids and weights, put to sleep."""

import copy
import os
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, Optional

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stepsearch.config import VLLMSettings
from stepsearch.errors import ConfigError, ModelError, one_line
from stepsearch.rollout.generation import Sampling

# What vLLM reads when it is imported; what the user has set stays.
_ENVIRONMENT = {
    # The engine lives in this process, so that weights are handed over and not sent.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Its threads are the trainer's too, and not to be bound to cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
_GIB = 1 << 30
# Everything is discarded: the weights come from the policy again.
_SLEEP_LEVEL = 2
# Of a seed, what vLLM takes.
_SEED_BITS = (1 << 63) - 1


class VLLMProcess:
    """One model in vLLM, with weights of its own.

    vLLM keeps its groups of processes in global variables, so a process runs one at a time: `wake` of another one stops
    it, and its next `wake` starts it anew.

    Args:
        causal_lm: the model whose shape it has; its weights are random until `load`.
        settings: memory.
        slots: requests sampled at the same time.
        max_length: tokens that a request may have.
        sleeps: whether a GPU's memory is given back by `sleep`.
        dtype: of its weights.

    Raises:
        ConfigError: vLLM does not start in this environment.
        ModelError: it cannot run the model here.
    """

    _running: ClassVar[Optional["VLLMProcess"]] = None

    def __init__(
        self,
        causal_lm: PreTrainedModel,
        settings: VLLMSettings,
        *,
        slots: int,
        max_length: int,
        sleeps: bool,
        dtype: torch.dtype,
    ) -> None:
        self._causal_lm, self._settings = causal_lm, settings
        self._slots, self._max_length = slots, max_length
        self._device, self._dtype = causal_lm.device.type, dtype
        self._sleeps = sleeps and self._device != "cpu"
        self._vllm = _import_vllm()
        self._start()

    def wake(self) -> bool:
        """Be ready to sample; return whether it has the weights that were loaded last."""
        if VLLMProcess._running is not self:
            self._start()
        elif self._asleep:
            self._engine.wake_up()
            self._asleep = False
        return self._has_weights

    def sleep(self) -> None:
        """Give the memory of weights and cache back, where that is possible and wanted."""
        if self._sleeps and VLLMProcess._running is self:
            self._engine.sleep(level=_SLEEP_LEVEL)
            self._asleep, self._has_weights = True, False

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take these weights, and forget what was computed with others."""
        with self._alone():
            self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights.items())})
        self._has_weights = True
        self.forget()

    def mend_head(self) -> None:
        """Prepare the output head anew: on a CPU a tied one goes on with a copy that it packed of earlier weights."""
        with self._alone():
            self._engine.apply_model(_pack_head)
        self.forget()

    def forget(self) -> None:
        """Drop the cache of what was read."""
        self._engine.reset_prefix_cache()

    def sample(self, name: str, token_ids: Sequence[int], sampling: Sampling, end_ids: Sequence[int]) -> None:
        """Begin to sample after these token ids, until one of `end_ids` or the most that `sampling` allows."""
        params = self._vllm.SamplingParams(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            seed=sampling.seed & _SEED_BITS,
            stop_token_ids=list(end_ids),
            logprobs=0,
            detokenize=False,
            output_kind=self._vllm.sampling_params.RequestOutputKind.DELTA,
        )
        self._engine.add_request(name, {"prompt_token_ids": list(token_ids)}, params)

    def abort(self, name: str) -> None:
        """Sample no further under that name, and forget it; unknown names are ignored."""
        if VLLMProcess._running is self:
            self._engine.abort_request([name])

    def step(self) -> list[tuple[str, list[int], list[float]]]:
        """Return the name, new token ids and their log-probabilities of everything that was sampled in one step."""
        with self._alone():
            outputs = self._engine.step()
        sampled: list[tuple[str, list[int], list[float]]] = []
        for output in outputs:
            token_ids = list(output.outputs[0].token_ids)
            pairs = zip(token_ids, output.outputs[0].logprobs, strict=True)
            sampled.append((output.request_id, token_ids, [found[token].logprob for token, found in pairs]))
        return sampled

    def _start(self) -> None:
        if VLLMProcess._running is not None:
            VLLMProcess._running._stop()
        with tempfile.TemporaryDirectory() as folder, _settings_of_torch(), self._alone():
            config = copy.deepcopy(self._causal_lm.config)
            config.architectures = [type(self._causal_lm).__name__]
            config.save_pretrained(folder)
            try:
                settings = self._vllm.EngineArgs(**self._arguments(folder)).create_engine_config()
                if settings.model_config.using_transformers_backend():
                    raise ModelError(
                        f"vLLM knows {config.architectures[0]} only through transformers' own classes, which it "
                        "changes for the whole process: set rollout.engine=in_process, or start a server and set "
                        "rollout.engine=vllm_server"
                    )
                self._engine: Any = self._vllm.LLMEngine.from_vllm_config(settings, disable_log_stats=True)
            except ModelError:
                raise
            except Exception as error:  # Whatever a foreign engine raises here, the user has to know the way out.
                raise ModelError(
                    f"vLLM cannot run {config.architectures[0]} here ({type(error).__name__}: "
                    f"{one_line(error, 300)}): set rollout.engine=in_process"
                ) from error
        VLLMProcess._running = self
        self._asleep = self._has_weights = False

    def _arguments(self, folder: str) -> dict[str, Any]:
        on_cpu = self._device == "cpu"
        cache = self._settings.cache_gib or (1.0 if on_cpu else None)
        arguments: dict[str, Any] = {
            "model": folder,
            "skip_tokenizer_init": True,
            "load_format": "dummy",
            "dtype": str(self._dtype).removeprefix("torch."),
            "max_model_len": self._max_length,
            "max_num_seqs": self._slots,
            "enforce_eager": on_cpu or self._settings.enforce_eager,
            "enable_prefix_caching": True,
            # vLLM fails on a CPU where a request with a seed is read in parts.
            "enable_chunked_prefill": not on_cpu,
            "enable_sleep_mode": self._sleeps,
            "gpu_memory_utilization": self._settings.gpu_memory_utilization,
            "distributed_executor_backend": "uni",
            # A token is looked at before the next one is sampled: nothing is sampled past a closed tag.
            "async_scheduling": False,
            # Those of the distribution that is sampled from, temperature included.
            "logprobs_mode": "processed_logprobs",
        }
        if cache is not None:
            arguments["kv_cache_memory_bytes"] = int(cache * _GIB)
        return arguments

    def _stop(self) -> None:
        """Free what vLLM holds in this process."""
        VLLMProcess._running = None
        self._engine.engine_core.shutdown()
        del self._engine
        import_module("vllm.distributed.parallel_state").cleanup_dist_env_and_memory()

    @contextmanager
    def _alone(self) -> Generator[None]:
        """Let the trainer's mixed precision not reach into vLLM, which has a precision of its own."""
        with torch.autocast(self._device, enabled=False):
            yield


def _import_vllm() -> ModuleType:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        return import_module("vllm")
    except Exception as error:  # One of another build of torch raises anything.
        raise ConfigError(
            f"vLLM cannot be imported here ({type(error).__name__}: {one_line(error)}): "
            "docs/engines.md says what it needs, or set rollout.engine=in_process"
        ) from error


def _pack_head(model: Any) -> None:
    """Let the output head take its weights as they are now."""
    head = getattr(model, "lm_head", None)
    if head is not None:
        head.quant_method.process_weights_after_loading(head)


@contextmanager
def _settings_of_torch() -> Generator[None]:
    """Keep vLLM's start from changing what holds for the whole process: random numbers and the number of threads."""
    set_num_threads, threads = torch.set_num_threads, torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads = set_num_threads
        torch.set_num_threads(threads)
