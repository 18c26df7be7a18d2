"""An interactive session: what it shows, and that it goes on."""

import io
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from stepsearch.cli.inference import InferenceSession
from stepsearch.config import Config
from stepsearch.errors import DataError
from stepsearch.rollout import EpisodeEvent
from stepsearch.types import Passage, Question, StopReason, Trajectory


def finished(question: Question, answer: str | None) -> Trajectory:
    reason = StopReason.ANSWERED if answer else StopReason.CONTEXT_FULL
    return Trajectory(question, (1,), (2,), (1,), (0.0,), (), answer, None, reason)


class Runner:
    """Plays the same short episode for every question, but for those that break it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(
        self, questions: Sequence[Question], seeds: Sequence[int], on_event: Callable[[EpisodeEvent], None]
    ) -> list[Trajectory]:
        text = questions[0].question
        self.asked.append(text)
        if text == "long":
            raise DataError("the question does not fit")
        if text == "stop":
            raise KeyboardInterrupt
        if text == "bug":
            raise RuntimeError("a bug")
        trajectory = finished(questions[0], None if text == "hard" else "Balnor")
        on_event(EpisodeEvent(0, "turn", text="<think>need [it]</think><search>X author</search>"))
        on_event(EpisodeEvent(0, "documents", passages=(Passage("1", "born in Balnor " * 50, "Bela"),)))
        on_event(EpisodeEvent(0, "documents"))
        on_event(EpisodeEvent(0, "turn", text="so <answer>Balnor</answer>"))
        on_event(EpisodeEvent(0, "finished", trajectory=trajectory))
        return [trajectory]


@pytest.fixture
def converse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], str]]:
    """Type these lines into a session; return what was asked and what was shown."""

    def converse(*lines: str) -> tuple[list[str], str]:
        stream, runner = io.StringIO(), Runner()
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        console = Console(file=stream, width=120)
        InferenceSession(runner, Config(), console).converse()  # type: ignore[arg-type]
        return runner.asked, stream.getvalue()

    return converse


def test_every_part_of_an_episode_is_shown(converse) -> None:
    asked, shown = converse("Where?", "exit", "never asked")
    assert asked == ["Where?"]
    assert "think  need [it]" in shown
    assert "search  X author" in shown
    assert "doc 1  Bela: born in Balnor" in shown
    assert "…" in shown
    assert "documents  none found" in shown
    assert "answer  Balnor" in shown
    assert "no answer" not in shown


def test_an_episode_without_answer_says_why(converse) -> None:
    assert "the episode ended: context full" in converse("hard")[1]


@pytest.mark.parametrize(
    ("broken", "shown"),
    [("long", "error: the question does not fit"), ("bug", "RuntimeError: a bug"), ("stop", "stopped")],
)
def test_the_session_goes_on_after_an_error(converse, broken: str, shown: str) -> None:
    asked, output = converse(broken, "Where?")
    assert asked == [broken, "Where?"]
    assert shown in output
    assert "answer  Balnor" in output


@pytest.mark.parametrize("leaving", ["exit", " EXIT ", "quit"])
def test_how_to_leave(converse, leaving: str) -> None:
    assert converse(leaving, "Where?")[0] == []


def test_an_empty_line_asks_nothing_and_leaves_nothing(converse) -> None:
    assert converse("", "  ", "Where?")[0] == ["Where?"]


def test_bytes_that_are_no_text_are_refused(converse) -> None:
    asked, shown = converse("caf\udce9?", "Where?")
    assert asked == ["Where?"]
    assert "error: the question is not UTF-8 text" in shown
