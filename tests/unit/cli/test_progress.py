"""What a long command shows, and what it remembers of its stages."""

import io
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from stepsearch.cli.progress import StageProgress
from stepsearch.cli.stage_ledger import StageLedger
from stepsearch.errors import ConfigError, DataError


def test_a_log_gets_a_line_per_stage() -> None:
    stream = io.StringIO()
    progress = StageProgress(Console(file=stream, width=80), {"read [bold]": 1, "skipped": 1, "train": 8})
    with progress.running():
        with progress.stage("read [bold]") as advance:
            advance(1.0)
        progress.skip("skipped")
        with progress.stage("train", total=10):
            pass
    assert stream.getvalue().splitlines() == ["[1/3] read [bold]", "[3/3] train"]


def test_a_log_is_told_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("stepsearch.cli.progress.time.perf_counter", lambda: clock[0])
    stream = io.StringIO()
    progress = StageProgress(Console(file=stream, width=80), {"play": 1})
    with progress.running(), progress.stage("play", total=400) as advance:
        for seconds, note in ((20, "100 played"), (30, ""), (80, "")):
            clock[0] = seconds
            advance(100 if seconds < 80 else 200, note)
    assert stream.getvalue().splitlines() == [
        "play",
        "play: 25% after 20 s, 60 s left, 100 played",
        "play: 50% after 30 s, 30 s left",
        "play: 100% after 80 s",
    ]


def test_a_terminal_gets_a_bar() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True)
    progress = StageProgress(console, {"a": 1, "b": 3})
    with progress.running():
        with progress.stage("a", total=4) as advance:
            advance(2)
        with progress.stage("b") as advance:
            advance(0.5)
            # a quarter is stage a, and half of the other three quarters
            assert progress._bar.tasks[0].completed == pytest.approx(0.25 + 0.375)
    assert "[2/2] b" in stream.getvalue()


def test_a_ledger_survives_and_belongs_to_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    ledger = StageLedger(path, {"seed": 1}, resume=False)
    with ledger.stage("world") as begun:
        assert begun is False
    with suppress(KeyboardInterrupt), ledger.stage("train"):
        sum(range(100_000))
        raise KeyboardInterrupt
    again = StageLedger(path, {"seed": 1}, resume=True)
    assert (again.is_finished("world"), again.is_finished("train")) == (True, False)
    # What the interrupted stage took is not lost.
    assert again.seconds.keys() == again.cpu_seconds.keys() == {"world", "train"}
    before = again.seconds["train"], again.cpu_seconds["train"]
    assert min(before) > 0
    with again.stage("train") as begun:
        assert begun is True
        sum(range(100_000))
    assert again.seconds["train"] > before[0]
    assert again.cpu_seconds["train"] > before[1]
    anew = StageLedger(path, {"seed": 2}, resume=False)
    assert anew.seconds == {}
    assert anew.is_finished("world") is False


def test_another_runs_ledger_names_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    StageLedger(path, {"seed": 1, "training": {"clip_range": 0.2, "gamma": 1.0}}, resume=False)
    with pytest.raises(ConfigError, match=r"other settings \(training\.clip_range=0\.2, not 0\.3\)"):
        StageLedger(path, {"seed": 1, "training": {"clip_range": 0.3, "gamma": 1.0}}, resume=True)


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"config": 3')
    with pytest.raises(DataError, match=r"run\.json cannot be read: start anew"):
        StageLedger(tmp_path / "run.json", {}, resume=True)
