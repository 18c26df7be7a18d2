"""`stepsearch annotate` against a real chat server: what it writes, what it pays, and how it ends."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import annotating_model
import pytest
from chat_server import ChatServer, Fault

from stepsearch.cli.main import main
from stepsearch.data import StepSearchDataset, read_questions

Annotate = Callable[..., list[str]]
QUESTIONS = 6


@pytest.fixture
def model() -> Generator[ChatServer]:
    server = ChatServer(annotating_model.answer)
    yield server
    server.stop()


@pytest.fixture
def arguments(world: Path, tmp_path: Path, model: ChatServer) -> Annotate:
    """Returns the arguments of a small annotation, with more of them behind."""

    def build(*more: object) -> list[str]:
        source = world / "data" / "train_processed.json"
        fixed = ["annotate", "--input", source, "--output", tmp_path / "annotated.json", "--base-url", model.url]
        return [str(part) for part in (*fixed, "--max-questions", QUESTIONS, "--queries-per-step", 2, *more)]

    return build


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "annotated.report.json").read_text(encoding="utf-8"))


def test_what_is_written(arguments: Annotate, world: Path, tmp_path: Path, model: ChatServer, capsys: Any) -> None:
    assert main(arguments()) == 0
    before = read_questions(world / "data" / "train_processed.json")[:QUESTIONS]
    after = read_questions(tmp_path / "annotated.json")
    assert [question.id for question in after] == [question.id for question in before]
    assert [question.golden_passages for question in after] == [question.golden_passages for question in before]
    for old, new in zip(before, after, strict=True):
        assert [sub.answer for sub in new.sub_questions] == [sub.answer for sub in old.sub_questions]
        assert all(sub.question.endswith("?") for sub in new.sub_questions)
        assert all(sub.search_queries for sub in new.sub_questions)
    assert len(StepSearchDataset(tmp_path / "annotated.json")) == QUESTIONS
    written = report(tmp_path)
    hops = sum(len(question.sub_questions) for question in before)
    assert written["counts"]["sub_questions"] == hops
    assert written["counts"]["queries_proposed"] == 2 * hops
    sent = len(model.requests)
    assert written["usage"]["replies"] == sent
    assert (written["usage"]["prompt_tokens"], written["usage"]["completion_tokens"]) == (100 * sent, 20 * sent)
    # gpt-4o: 100 x 2.5 + 20 x 10 millionths of a dollar each.
    assert written["cost"] == pytest.approx(sent * 450e-6)
    out = capsys.readouterr().out
    assert f"{QUESTIONS} of {QUESTIONS} questions annotated" in out
    assert f"requests: {sent} paid, 0 from the cache" in out
    assert f"cost: {sent * 450e-6:.2f} USD" in out
    assert {path.name for path in tmp_path.iterdir()} == {
        "annotated.json",
        "annotated.report.json",
        "annotated.cache.jsonl",
    }


def test_a_second_run_pays_nothing(arguments: Annotate, tmp_path: Path, model: ChatServer) -> None:
    main(arguments())
    first, sent = (tmp_path / "annotated.json").read_bytes(), len(model.requests)
    (tmp_path / "annotated.json").unlink()
    assert main(arguments()) == 0
    assert (tmp_path / "annotated.json").read_bytes() == first
    assert len(model.requests) == sent
    again = report(tmp_path)
    assert again["cost"] == 0
    assert again["cost_with_cache"] == pytest.approx(sent * 450e-6)


def test_a_dry_run_sends_and_writes_nothing(
    arguments: Annotate, tmp_path: Path, model: ChatServer, capsys: Any
) -> None:
    assert main(arguments("--dry-run")) == 0
    out = capsys.readouterr().out
    assert f"requests: {2 * QUESTIONS}, and 0 that the cache answers" in out
    assert "cost, estimated: 0.0" in out
    assert model.requests == []
    assert list(tmp_path.iterdir()) == []
    main(arguments())
    main(arguments("--dry-run"))
    assert f"requests: 0, and {2 * QUESTIONS} that the cache answers" in capsys.readouterr().out


def test_faults_on_the_way_change_nothing(arguments: Annotate, tmp_path: Path, model: ChatServer) -> None:
    main(arguments("--cache", tmp_path / "other.jsonl"))
    expected = (tmp_path / "annotated.json").read_bytes()
    model.faults.extend(
        [
            Fault("status", 429, {"Retry-After": "0.1"}),
            Fault("cut"),
            Fault("half_json"),
            Fault("drop"),
            Fault("status", 503),
            Fault("say", text='{"sub_questions": ['),
            Fault("say", text='{"another": "schema"}'),
        ]
    )
    assert main(arguments()) == 0
    assert (tmp_path / "annotated.json").read_bytes() == expected
    written = report(tmp_path)
    assert written["usage"]["retries"] == 5
    assert written["usage"]["failures"] == 0
    # Two replies were malformed, paid, and asked for again.
    assert written["usage"]["replies"] == 2 * QUESTIONS + 2
    assert written["gaps"] == []


def test_replies_that_stay_malformed_are_counted(arguments: Annotate, tmp_path: Path, model: ChatServer) -> None:
    model.answer = lambda body: "I would rather not."
    assert main(arguments()) == 0
    written = report(tmp_path)
    assert written["counts"]["rewriting_malformed"] == written["counts"]["queries_malformed"] == QUESTIONS
    assert written["counts"]["sub_questions_from_rules"] == written["counts"]["sub_questions"]
    # Each of two requests a question, three times.
    assert len(model.requests) == 6 * QUESTIONS
    assert len(written["gaps"]) == 2 * QUESTIONS
    assert all(
        sub.search_queries for question in read_questions(tmp_path / "annotated.json") for sub in question.sub_questions
    )


def test_a_budget_stops_cleanly_and_more_money_goes_on(
    arguments: Annotate, tmp_path: Path, model: ChatServer, capsys: Any
) -> None:
    # A rewriting costs at most about 1,700 bytes of prompt and 512 tokens of reply: 0.0094 dollars; really 0.00045.
    assert main(arguments("--max-cost", 0.0105, "--concurrency", 1)) == 0
    written = report(tmp_path)
    assert written["cost"] <= 0.0105
    assert 0 < written["counts"]["not_reached"] < QUESTIONS
    assert "the budget of 0.0105 USD is spent" in capsys.readouterr().out
    sent = len(model.requests)
    assert main(arguments("--max-cost", 1)) == 0
    assert report(tmp_path)["counts"]["not_reached"] == 0
    assert len(model.requests) == 2 * QUESTIONS
    assert report(tmp_path)["usage"]["cached"] >= sent


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_without_paying_twice(
    arguments: Annotate, tmp_path: Path, model: ChatServer, how: signal.Signals
) -> None:
    main(arguments("--cache", tmp_path / "other.jsonl"))
    expected = (tmp_path / "annotated.json").read_bytes()
    (tmp_path / "annotated.json").unlink()
    model.requests.clear()
    # The rest would take twelve seconds, in which the signal comes however slow the machine is.
    model.answered, model.quick_first, model.delay = 0, 4, 3.0
    # What a shell starts in the background ignores SIGINT.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from stepsearch.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments("--concurrency", "2")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    cache = tmp_path / "annotated.cache.jsonl"
    while not cache.exists() or cache.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(how)
    out, _ = process.communicate()
    assert process.returncode == (-9 if how is signal.SIGKILL else 130)
    assert not (tmp_path / "annotated.json").exists()
    kept = cache.read_bytes().count(b"\n")
    assert 4 <= kept < 2 * QUESTIONS
    model.delay = 0.0
    assert main(arguments()) == 0
    assert (tmp_path / "annotated.json").read_bytes() == expected
    assert report(tmp_path)["usage"]["cached"] == kept
    assert report(tmp_path)["usage"]["replies"] == 2 * QUESTIONS - kept
    times = Counter(json.dumps(body, sort_keys=True) for body in model.requests)
    assert len(times) == 2 * QUESTIONS
    if how is signal.SIGINT:
        # What was under way was waited for.
        assert set(times.values()) == {1}
        assert "the same command goes on from there" in out
    else:
        # Only the two that were under way can have been lost.
        assert sum(times.values()) <= 2 * QUESTIONS + 2


def test_a_server_that_dies_half_way_and_comes_back(arguments: Annotate, tmp_path: Path, model: ChatServer) -> None:
    main(arguments("--cache", tmp_path / "other.jsonl"))
    expected = (tmp_path / "annotated.json").read_bytes()
    model.answered = 0
    model.dies_after = QUESTIONS
    threading.Timer(0.8, model.start).start()
    assert main(arguments("--concurrency", 1)) == 0
    assert (tmp_path / "annotated.json").read_bytes() == expected
    usage = report(tmp_path)["usage"]
    assert (usage["replies"], usage["failures"]) == (2 * QUESTIONS, 0)
    assert model.answered == 2 * QUESTIONS
    assert usage["retries"] >= 1


@pytest.mark.parametrize(
    ("questions", "message"), [(QUESTIONS, "did not answer 10 requests in a row"), (1, "answered none of 2 requests")]
)
def test_a_server_that_dies_and_stays_away(
    arguments: Annotate, tmp_path: Path, model: ChatServer, questions: int, message: str
) -> None:
    model.stop()
    # Pauses between tries would take minutes, so that a port nobody listens on is refused early.
    command = [sys.executable, "-c", FAST, *arguments("--max-questions", questions)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "annotated.json").exists()


FAST = """
import dataclasses, sys
import stepsearch.cli.annotate as command
from stepsearch.cli.main import main
plain = command.EndpointSettings
command.EndpointSettings = lambda *a, **k: dataclasses.replace(plain(*a, **k), retries=1, backoff_seconds=0.01)
sys.exit(main(sys.argv[1:]))
"""


class TestMistakes:
    @pytest.fixture
    def refuse(self, arguments: Annotate, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
        def refuse(*more: object) -> str:
            assert main(arguments(*more)) == 2
            lines = capsys.readouterr().err.strip().splitlines()
            assert len(lines) == 1, lines
            return lines[0]

        return refuse

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (("--model", "mine", "--max-cost", 1), "--prompt-price and --completion-price"),
            (("--prompt-price", 1), "go together"),
            (("--prompt-price", -1, "--completion-price", 1), "0 or more"),
            (("--max-cost", 0), "must be more than 0"),
            (("--engines", "altavista"), "choose one of"),
            (("--knowledge-base", "/nowhere"), "/nowhere is no knowledge base"),
            (("--input", "/nowhere.json"), "/nowhere.json does not exist"),
            (("--base-url", "here"), "must start with http"),
            (("--output", "/proc/nowhere/x.json"), "cannot be written"),
        ],
    )
    def test_one_line_each(self, refuse: Callable[..., str], more: tuple[object, ...], message: str) -> None:
        assert message in refuse(*more)

    def test_the_input_is_not_overwritten(self, refuse: Callable[..., str], world: Path) -> None:
        assert "name another file" in refuse("--output", world / "data" / "train_processed.json")

    def test_a_cache_that_is_none(self, refuse: Callable[..., str], world: Path) -> None:
        assert "is no cache" in refuse("--cache", world / "data" / "train_processed.json")

    def test_a_wrong_key(self, refuse: Callable[..., str], model: ChatServer, tmp_path: Path) -> None:
        model.faults.append(Fault("status", 401, error={"message": "Incorrect API key"}))
        assert "Incorrect API key" in refuse("--concurrency", 1)
        assert len(model.requests) == 1
        assert not (tmp_path / "annotated.json").exists()
