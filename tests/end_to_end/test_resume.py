"""A run that is killed goes on as if it never had been: the same metrics, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("toy_run.py")
STEPS = 11
CHECKPOINT_EVERY = 4


def start(folder: Path, *flags: str, workers: int = 1) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(STEPS), str(workers), *flags],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(run: "subprocess.Popen[bytes]") -> None:
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors.decode()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "logs" / "metrics.jsonl"
    if not path.exists():
        return []
    # The last line may be half-written while the run goes on.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1] == "\n"]


def without_times(metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in step.items() if not key.startswith("time/") and not key.endswith("per_second")}
        for step in metrics
    ]


def last_step(folder: Path) -> int:
    return max((line["step"] for line in read_metrics(folder)), default=-1)


def kill_after_step(run: "subprocess.Popen[bytes]", folder: Path, step: int, seconds: float) -> None:
    deadline = time.monotonic() + 300
    while last_step(folder) < step:
        assert run.poll() is None, run.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(seconds)
    run.send_signal(signal.SIGKILL)
    run.communicate()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_resumes_bit_identically(tmp_path: Path, workers: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    step, seconds = random.randrange(CHECKPOINT_EVERY, STEPS - 1), random.uniform(0, 0.3)
    uninterrupted, interrupted = start(whole, workers=workers), start(killed, workers=workers)
    kill_after_step(interrupted, killed, step, seconds)
    finish(uninterrupted)
    finish(start(killed, "--resume", workers=workers))
    expected, resumed = without_times(read_metrics(whole)), without_times(read_metrics(killed))
    assert [line["step"] for line in resumed] == list(range(STEPS + 1)), f"killed after {step} + {seconds:.3f} s"
    assert resumed == expected, f"killed after {step} + {seconds:.3f} s"
    for name in ("model.safetensors", "stepsearch.json"):
        best = [folder / "checkpoints" / "best_model" / name for folder in (whole, killed)]
        assert best[0].read_bytes() == best[1].read_bytes()
    trajectories = [(folder / "logs" / "trajectories.jsonl").read_text(encoding="utf-8") for folder in (whole, killed)]
    assert trajectories[0] == trajectories[1]


def test_the_policy_before_the_first_step_is_evaluated_once(tmp_path: Path) -> None:
    # Killed before the first checkpoint: the run begins anew, and so does its log.
    run = start(tmp_path)
    kill_after_step(run, tmp_path, 0, 0.0)
    finish(start(tmp_path, "--resume"))
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(STEPS + 1))
    assert lines[0].keys() == {"step", "eval/em", "eval/f1", "time/evaluation"}


def test_ctrl_c_ends_after_a_whole_step_with_a_checkpoint(tmp_path: Path) -> None:
    run = start(tmp_path)
    while last_step(tmp_path) < 1:
        assert run.poll() is None, run.communicate()[1].decode()
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    finish(run)
    steps = last_step(tmp_path)
    assert 1 <= steps < STEPS
    assert (tmp_path / "checkpoints" / f"step-{steps:06d}").is_dir()
    log = (tmp_path / "logs" / "train.log").read_text(encoding="utf-8")
    assert f"interrupted after step {steps} of {STEPS}: go on with the same command and --resume" in log
