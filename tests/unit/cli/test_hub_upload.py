"""Pushing to a stand-in of the hub on this machine, which keeps what it is sent, and to one that is not there."""

import base64
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import ModelCard

from stepsearch.cli.hub_upload import refuse_impossible_upload, upload_model
from stepsearch.cli.main import USER_ERROR, main
from stepsearch.cli.train import _push
from stepsearch.errors import ConfigError, ModelError
from stepsearch.models import StepSearchModel
from stepsearch.models.run_record import RunRecord

REPOSITORY = "somebody/steppo-tiny"


class StandInHub(http.server.ThreadingHTTPServer):
    """Takes commits as the hub does, small files and large ones alike in the commit itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.messages: list[str] = []
        self.made: list[dict[str, object]] = []
        self.authorization: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: StandInHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hub = self.server
        hub.authorization.add(self.headers["Authorization"])
        if self.path == "/api/repos/create":
            hub.made.append(json.loads(body))
            self.reply({"url": f"{hub.address}/{REPOSITORY}"})
        elif self.path == "/api/validate-yaml":
            self.reply({"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self.reply({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "header":
                    hub.messages.append(line["value"]["summary"])
                else:
                    hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            oid = "0" * 40
            self.reply({"commitUrl": f"{hub.address}/{REPOSITORY}/commit/{oid}", "commitOid": oid, "success": True})
        else:
            self.send_error(404, self.path)

    def reply(self, answer: object) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    server = StandInHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    return address


@pytest.fixture
def folder(policy: StepSearchModel, tmp_path: Path) -> Path:
    policy.save(tmp_path / "model", {"run": RunRecord("StePPO", seed=3).to_json()})
    return tmp_path / "model"


def summary(model: Path) -> dict[str, object]:
    figures = {
        "em": {"value": 0.25, "low": 0.2, "high": 0.31, "count": 100},
        "f1": {"value": 0.5, "low": 0.4, "high": 0.6, "count": 100},
        "tokens": {"value": 80.0, "low": 70.0, "high": 90.0, "count": 100},
    }
    return {
        "model": str(model),
        "corpus": "search: bm25 over 12 passages",
        "datasets": {"musique": {"figures": figures}},
    }


def test_the_whole_folder_arrives_in_one_commit(folder: Path, hub: StandInHub) -> None:
    assert upload_model(folder, REPOSITORY, private=True) == f"{hub.address}/{REPOSITORY}"
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "stepsearch.json", "README.md"} <= set(hub.files)
    assert hub.messages == ["Add the tiny policy, StePPO"]
    assert hub.made[0]["visibility"] == "private"
    assert hub.authorization == {"Bearer hf_of_nobody"}


def test_push_puts_an_evaluations_figures_into_the_card(folder: Path, hub: StandInHub, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "evaluation_summary.json").write_text(json.dumps(summary(folder)), encoding="utf-8")
    command = ["push", "--model-path", str(folder), "--repo", REPOSITORY, "--results", str(tmp_path)]
    assert main(command) == 0
    card = ModelCard(hub.files["README.md"].decode())
    assert [(result.metric_type, result.metric_value) for result in card.data.eval_results] == [
        ("exact_match", 0.25),
        ("f1", 0.5),
    ]
    assert "| musique | evaluation | EM | 0.250 | 0.200 – 0.310 | 100 |" in card.text
    assert "search: bm25 over 12 passages" in card.text


def test_figures_of_another_model_are_refused(
    folder: Path, hub: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "evaluation_summary.json").write_text(json.dumps(summary(tmp_path / "other")), encoding="utf-8")
    command = ["push", "--model-path", str(folder), "--repo", REPOSITORY, "--results", str(tmp_path)]
    assert main(command) == USER_ERROR
    assert "is an evaluation of" in capsys.readouterr().err
    assert hub.files == {}


def test_a_hub_that_is_not_there_is_named(folder: Path, no_hub: str) -> None:
    with pytest.raises(ModelError, match=rf"could not be pushed to {REPOSITORY} at {no_hub}, which cannot be reached"):
        upload_model(folder, REPOSITORY, private=False)


def test_after_training_it_is_told_and_nothing_is_lost(folder: Path, no_hub: str) -> None:
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(ModelError, match=r"^training is done and the model saved, but .* cannot be reached") as raised:
        _push(folder, REPOSITORY)
    assert str(raised.value).endswith(f"stepsearch push --model-path {folder} --repo {REPOSITORY}")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_what_cannot_work_is_refused_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    with pytest.raises(ConfigError, match="write OWNER/NAME"):
        refuse_impossible_upload("a/b/c")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="set HF_TOKEN"):
        refuse_impossible_upload(REPOSITORY)


def test_a_folder_without_a_model(hub: StandInHub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        upload_model(tmp_path, REPOSITORY, private=False)
