"""A stand-in of the hub that has one model, and a hub that is not there."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import huggingface_hub.constants
import pytest

from stepsearch.config import DenseSearchSettings
from stepsearch.errors import ModelError, SearchError
from stepsearch.hub_lookup import HubAnswer, ask_hub
from stepsearch.models.model_folder import load_config_of
from stepsearch.search.cross_encoder import CrossEncoder
from stepsearch.search.text_encoder import TextEncoder

HERE = "somebody/here"


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """What the hub said is kept for a process, and would outlive the test."""
    ask_hub.cache_clear()
    yield
    ask_hub.cache_clear()


@pytest.fixture
def hub(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(asked: Any) -> tuple[int, dict[str, str], bytes]:
        if asked.path == f"/api/models/{HERE}":
            return 200, {}, json.dumps({"id": HERE}).encode()
        return 404, {"X-Error-Code": "RepoNotFound"}, b'{"error": "Repository not found"}'

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", loopback(answer).url)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")


@pytest.mark.usefixtures("hub")
def test_what_the_hub_says() -> None:
    assert ask_hub(HERE) is HubAnswer.HAS
    assert ask_hub("somebody/elsewhere") is HubAnswer.LACKS
    assert ask_hub("no/name/of/a/model") is HubAnswer.LACKS


@pytest.mark.usefixtures("no_hub")
def test_a_hub_that_is_not_there_is_silent() -> None:
    assert ask_hub(HERE) is HubAnswer.SILENT


@pytest.mark.usefixtures("hub")
def test_a_model_that_the_hub_lacks_is_named() -> None:
    said = "neither a folder here nor a model on the hub"
    with pytest.raises(SearchError, match=rf"search\.dense\.encoder: somebody/none cannot be loaded .*{said}"):
        TextEncoder.load("somebody/none", DenseSearchSettings())
    with pytest.raises(SearchError, match=rf"search\.hybrid\.reranker: .*somebody/none cannot be loaded .*{said}"):
        CrossEncoder.load("somebody/none")
    with pytest.raises(ModelError, match=rf"model somebody/none is {said}"):
        load_config_of("somebody/none")


@pytest.mark.usefixtures("no_hub")
def test_without_a_hub_an_unknown_name_fails_at_once() -> None:
    """transformers tries for half a minute, file by file."""
    started = time.monotonic()
    with pytest.raises(SearchError, match=r"search\.dense\.encoder: somebody/unknown cannot be loaded"):
        TextEncoder.load("somebody/unknown", DenseSearchSettings())
    assert time.monotonic() - started < 15
