"""A stand-in of the hub that has one model, and a hub that is not there."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator

import huggingface_hub.constants
import pytest

from stepsearch.config import DenseSearchSettings
from stepsearch.errors import ModelError, SearchError
from stepsearch.hub_lookup import HubAnswer, ask_hub
from stepsearch.models.model_folder import load_config_of
from stepsearch.search.cross_encoder import CrossEncoder
from stepsearch.search.text_encoder import TextEncoder

HERE = "somebody/here"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == f"/api/models/{HERE}"
        content = json.dumps({"id": HERE} if found else {"error": "Repository not found"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(content)))
        if not found:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """What the hub said is kept for a process, and would outlive the test."""
    ask_hub.cache_clear()
    yield
    ask_hub.cache_clear()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()
    thread.join()


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
