"""What the tests over vLLM share. They run where it is installed (`make test-engines`)."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from stepsearch.config import VLLMSettings
from stepsearch.models.step_search_model import StepSearchModel


@pytest.fixture(scope="session", autouse=True)
def vllm_is_installed() -> None:
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed here: make test-engines has it")


@pytest.fixture(scope="session")
def small_cache() -> VLLMSettings:
    return VLLMSettings(cache_gib=0.25)


@pytest.fixture(scope="session")
def make_policy(random_policy: Callable[..., Any], spelled_tokenizer: Any) -> Callable[..., StepSearchModel]:
    """Builds random policies of a shape that vLLM's kernels take."""

    def make(**overrides: Any) -> StepSearchModel:
        sizes = {"hidden_size": 128, "intermediate_size": 96, **overrides}
        return StepSearchModel(random_policy(len(spelled_tokenizer), **sizes), spelled_tokenizer)

    return make


class Server:
    """A vLLM server in a process of its own."""

    def __init__(self, model: Path, log: Path, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        flags = {
            "model": str(model),
            "port": str(port),
            "dtype": "float32",
            "logprobs-mode": "processed_logprobs",
            "max-model-len": "512",
            "max-num-seqs": "8",
            "kv-cache-memory-bytes": str(1 << 28),
        }
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--enforce-eager", "--no-enable-chunked-prefill"]
        command += [part for name, value in flags.items() for part in (f"--{name}", value)]
        settings = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command, env={**os.environ, **settings, **environment}, stdout=output, stderr=subprocess.STDOUT
            )
        self._log = log

    def wait(self, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while True:
            assert self._process.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            try:
                if httpx.get(f"{self.url}/health").is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.3)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers of saved models."""
    servers: list[Server] = []

    def start(model: Path, **environment: str) -> Server:
        servers.append(Server(model, tmp_path_factory.mktemp("vllm") / "server.log", **environment))
        servers[-1].wait()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
