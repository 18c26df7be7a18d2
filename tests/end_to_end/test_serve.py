"""`stepsearch serve` as a process on loopback: its episodes are the rollout's, and it lets go of who leaves."""

import json
import signal
import socket
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_server import Server, running

from stepsearch.cli.main import main
from stepsearch.cli.players import Player, use_threads
from stepsearch.config import load_config
from stepsearch.data import read_questions
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.search import build_search_engine
from stepsearch.search.guarded_search import guard
from stepsearch.types import Question, Trajectory

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def questions(world: Path) -> list[str]:
    return [question.question for question in read_questions(world / "data" / "dev_processed.json")]


@pytest.fixture(scope="module")
def server(searching_policy: Path) -> Generator[Server]:
    with running("-m", "stepsearch", "serve", "--model-path", str(searching_policy), "--port", "0") as server:
        yield server


def ask(server: Server, text: str, **more: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": text}], "return_trajectory": True, **more}
    response = server.client.post(f"{server.url}/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_served_together_or_played_one_by_one(
    server: Server, searching_policy: Path, world: Path, questions: list[str]
) -> None:
    with ThreadPoolExecutor(len(questions)) as clients:
        asked = [clients.submit(ask, server, text, seed=n, temperature=1.0) for n, text in enumerate(questions)]
        served = [Trajectory.from_json(answer.result()["stepsearch"]["trajectory"]) for answer in asked]

    config = load_config(
        PROJECT / "config" / "tiny.yaml", [f"search.knowledge_base={world / 'data' / 'knowledge_base'}"]
    )
    use_threads(config)
    search = guard(build_search_engine(config.search), config.search)
    runner = Player(StepSearchModel.load(searching_policy), search, config).watched_runner(1.0)
    for seed, (text, trajectory) in enumerate(zip(questions, served, strict=True)):
        (alone,) = runner.run([Question(id="", question=text, answers=())], [seed])
        assert trajectory.response_ids == alone.response_ids
        assert trajectory.steps == alone.steps
        assert trajectory.answer == alone.answer
    assert sum(len(trajectory.steps) for trajectory in served) > 0


def test_without_a_temperature_an_answer_is_repeated(server: Server, questions: list[str]) -> None:
    first, second = (ask(server, questions[0])["stepsearch"] for _ in range(2))
    assert first == second


def test_who_leaves_leaves_nothing_open(server: Server, questions: list[str]) -> None:
    body = {"messages": [{"role": "user", "content": questions[0]}], "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body) as response:
        first = json.loads(next(response.iter_lines()).removeprefix("data: "))
    assert first["choices"][0]["delta"]["role"] == "assistant"
    deadline = time.monotonic() + 10
    while server.client.get(f"{server.url}/healthz").json()["open"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sigterm_ends_it_well(searching_policy: Path) -> None:
    flags = ["--model-path", str(searching_policy), "--port", "0", "--name", "fox"]
    with running("-m", "stepsearch", "serve", *flags) as server:
        assert "as model fox" in server.said
        assert server.client.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "fox"
        server.process.send_signal(signal.SIGTERM)
        rest, _ = server.process.communicate(timeout=30)
        assert server.process.returncode == 0
        assert rest.splitlines()[-1] == "stopped"


def test_an_address_that_is_taken_is_said_before_the_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--model-path", str(tmp_path / "none"), "--port", f"{taken.getsockname()[1]}"]) == 2
    assert "cannot listen on port" in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model-path", str(tmp_path / "none"), "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "none" in line
