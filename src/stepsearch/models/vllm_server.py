"""A vLLM server: what it is asked, and what it answers, as token ids (docs/engines.md)."""

import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from safetensors.torch import save_file
from torch import Tensor

from stepsearch.config import VLLMSettings
from stepsearch.errors import ConfigError, ModelError, one_line
from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.generation import Sampling

_SEED_BITS = (1 << 63) - 1
# Asked of any server before it is trusted to be there.
_GREETING_SECONDS = 10.0
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled after a prompt: ids with their log-probabilities."""

    token_ids: list[int]
    logprobs: list[float]


class VLLMServer:
    """Client of one server; its methods may be called from several threads.

    Args:
        settings: address, token and exchange folder.
        connections: requests under way at the same time.

    Raises:
        ModelError: nothing answers there as vLLM does.
    """

    def __init__(self, settings: VLLMSettings, connections: int) -> None:
        token = os.environ.get(settings.token_variable)
        self._url = settings.url.rstrip("/")
        self._exchange_folder = settings.exchange_folder
        self._client = httpx.Client(
            base_url=self._url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=settings.timeout_seconds,
            limits=httpx.Limits(max_connections=connections),
        )
        weakref.finalize(self, self._client.close)
        served = self._call("GET", "/v1/models", timeout=_GREETING_SECONDS)["data"][0]
        self.name: str = served["id"]
        self.max_length: int | None = served.get("max_model_len")

    def complete(self, token_ids: Sequence[int], sampling: Sampling, end_ids: Sequence[int]) -> Completion:
        """Return what is sampled after these token ids until a stop tag closes, one of `end_ids`, or the most allowed.

        The server finds stop tags in text; what it returns may go on a little behind them.

        Raises:
            ModelError: the server does not answer, or refuses.
        """
        request = {
            "model": self.name,
            "prompt": list(token_ids),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": sampling.seed & _SEED_BITS,
            "stop": list(STOP_TAGS),
            "include_stop_str_in_output": True,
            "stop_token_ids": list(end_ids),
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "add_special_tokens": False,
            "logprobs": 0,
            "return_token_ids": True,
        }
        choice = self._call("POST", "/v1/completions", json=request)["choices"][0]
        return Completion(choice["token_ids"], choice["logprobs"]["token_logprobs"])

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Let the server read these weights from a folder that both see, and forget what it computed with others.

        Raises:
            ConfigError: the server does not take weights.
            ModelError: the folder cannot be written, or the server does not answer.
        """
        with tempfile.TemporaryDirectory(prefix="stepsearch-weights-", dir=self._exchange_folder) as folder:
            # A file holds no tensor twice, and the server wants a tied one under each of its names.
            save_file({name: weight.cpu().clone() for name, weight in weights.items()}, f"{folder}/model.safetensors")
            body = {"method": "reload_weights", "kwargs": {"weights_path": folder}}
            self._manage("/collective_rpc", json=body)
        self.forget()

    def forget(self) -> None:
        """Let the server drop its cache of what was read.

        Raises:
            ConfigError: the server does not let itself be managed, and so takes no weights either.
            ModelError: it does not answer.
        """
        self._manage("/reset_prefix_cache")

    def _manage(self, path: str, **request: Any) -> None:
        try:
            self._call("POST", path, **request)
        except _NotThere:
            raise ConfigError(
                f"the vLLM server at {self._url} takes no weights: start it with VLLM_SERVER_DEV_MODE=1 "
                "(docs/engines.md), or set rollout.engine=in_process"
            ) from None

    def _call(self, method: str, path: str, **request: Any) -> Any:
        """Return the JSON of an answer; None for an empty one.

        Raises:
            _NotThere: the server has no such path.
            ModelError: it does not answer, or refuses.
        """
        try:
            response = self._client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise ModelError(
                f"the vLLM server at {self._url} does not answer ({type(error).__name__}): start it (docs/engines.md), "
                "set vllm.url, or rollout.engine=in_process"
            ) from None
        if response.status_code == _NOT_FOUND:
            raise _NotThere(f"{self._url}{path} is not there: vllm.url has to be the address of a vLLM server")
        if response.is_error:
            reason = one_line(response.text, 300)
            raise ModelError(f"the vLLM server at {self._url} refuses {path} ({response.status_code}): {reason}")
        return response.json() if response.content else None


class _NotThere(ModelError):
    """The server has no such path."""
