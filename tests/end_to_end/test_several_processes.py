"""Several processes compute what one does, whichever way the networks are held, and stop together."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from process_runs import UNEVEN, assert_same_gradients, read_metrics, run_in_processes, train_toy
from torch.distributed.tensor import DTensor
from toy_run import toy_config, toy_policy, toy_trainer

from stepsearch.cli.main import main
from stepsearch.errors import ProcessLostError, TrainingError
from stepsearch.models.rollout_copy import RolloutCopy
from stepsearch.rollout import SyncedRunner
from stepsearch.training.processes import join_processes
from stepsearch.training.sharding import shard
from stepsearch.training.sharing_runner import SharingRunner
from stepsearch.types import Question

FOUR_STEPS = {
    **UNEVEN,
    "training.max_steps": 4,
    "logging.checkpoint_every": 2,
    "logging.keep_checkpoints": 4,
}
ONE_STEP = {**FOUR_STEPS, "training.max_steps": 1, "training.value_warmup_steps": 0}


def assert_same_metrics(ours: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert [line["step"] for line in ours] == [line["step"] for line in expected]
    for line, wanted in zip(ours, expected, strict=True):
        assert line == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def back_to_step(run: Path, step: int, copy: Path) -> Path:
    """Copy a run as it was when it had taken so many steps."""
    shutil.copytree(run, copy)
    for checkpoint in (copy / "checkpoints").glob("step-*"):
        if int(checkpoint.name.removeprefix("step-")) > step:
            shutil.rmtree(checkpoint)
    return copy


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[float]]]:
    """A run in one process, and its gradients."""
    folder = tmp_path_factory.mktemp("alone")
    (gradients,) = run_in_processes(1, train_toy, folder, FOUR_STEPS)
    return folder, gradients


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_compute_what_one_does(
    tmp_path: Path, alone: tuple[Path, list[list[float]]], parallel: str
) -> None:
    folder, expected = alone
    both = run_in_processes(2, train_toy, tmp_path / "both", {**FOUR_STEPS, "training.parallel": parallel})
    for gradients in both:
        assert_same_gradients(gradients, expected)
    whole_run = read_metrics(folder)
    assert_same_metrics(read_metrics(tmp_path / "both"), whole_run)
    # What one process has saved, two go on with, and the other way round.
    begun_alone = back_to_step(folder, 2, tmp_path / "begun alone")
    run_in_processes(2, train_toy, begun_alone, {**FOUR_STEPS, "training.parallel": parallel}, True)
    assert_same_metrics(read_metrics(begun_alone), whole_run)
    begun_by_both = back_to_step(tmp_path / "both", 2, tmp_path / "begun by both")
    run_in_processes(1, train_toy, begun_by_both, FOUR_STEPS, True)
    assert_same_metrics(read_metrics(begun_by_both), whole_run)


@pytest.mark.parametrize(
    ("parallel", "changes"),
    [
        ("fsdp", {"training.critic": "shared", "training.gradient_checkpointing": "true"}),
        ("ddp", {"training.critic": "shared", "training.value_warmup_steps": 1}),
        ("ddp", {"lora.rank": 4}),
    ],
)
def test_every_kind_of_critic_learns_the_same(tmp_path: Path, parallel: str, changes: dict[str, Any]) -> None:
    settings = {**ONE_STEP, **changes}
    (expected,) = run_in_processes(1, train_toy, tmp_path / "alone", settings)
    for gradients in run_in_processes(2, train_toy, tmp_path / "both", {**settings, "training.parallel": parallel}):
        assert_same_gradients(gradients, expected)


def double_shared_weights() -> bool:
    """Return whether a copy to sample from has the weights, of which each process doubled its share."""
    processes, policy = join_processes(), toy_policy(0)
    expected = {name: 2 * weight for name, weight in policy.causal_lm.state_dict().items()}
    copy = RolloutCopy(policy, torch.float32)
    shard(policy, torch.device("cpu"))
    assert all(isinstance(parameter, DTensor) for parameter in policy.parameters())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(2)
    # One process has no episode to play, and still takes part in bringing the copies up to date.
    runner = SharingRunner(SyncedRunner(Nobody(), copy.sync), processes)
    assert runner.run([Question("q", "?", ("x",))], [0]) == []
    followed = copy.causal_lm.state_dict()
    return all(torch.equal(followed[name], weight) for name, weight in expected.items())


class Nobody:
    """A runner that plays nothing."""

    def run(self, questions: Any, seeds: Any) -> list[Any]:
        return []


def test_a_copy_to_sample_from_follows_weights_that_are_shared_out() -> None:
    assert run_in_processes(2, double_shared_weights) == [True, True]


def share_three_numbers() -> list[int]:
    return join_processes().share_out([1, 2, 3], lambda numbers: [10 * number for number in numbers])


def fail_in_the_second() -> None:
    processes = join_processes()

    def work(numbers: Any) -> list[int]:
        if processes.rank == 1:
            raise TrainingError(f"{list(numbers)} cannot be done")
        return list(numbers)

    processes.share_out([1, 2, 3], work)


def die_in_the_second() -> None:
    processes = join_processes()
    with processes.together():
        processes.gather(None)
        if processes.rank == 1:
            os._exit(1)
        processes.sum(torch.ones(2))


def test_work_that_is_shared_out_comes_back_in_order() -> None:
    # Four processes have three items: the first has none.
    assert run_in_processes(4, share_three_numbers) == [[10, 20, 30]] * 4


def test_what_fails_in_one_process_is_raised_in_all() -> None:
    failures = run_in_processes(2, fail_in_the_second)
    assert [type(failure) for failure in failures] == [TrainingError] * 2
    assert [str(failure) for failure in failures] == ["[2, 3] cannot be done"] * 2


def test_a_process_that_is_gone_is_missed() -> None:
    left, gone = run_in_processes(2, die_in_the_second)
    assert gone is None
    assert isinstance(left, ProcessLostError)
    assert "process 0 of 2 has lost another one" in str(left)
    assert "--resume" in str(left)


def train_and_interrupt_the_second(folder: Path) -> tuple[int, bool]:
    """Train; the second process gets a signal when it has taken two steps, and the first none."""
    trainer = toy_trainer(folder, toy_config({**FOUR_STEPS, "training.max_steps": 9, "logging.checkpoint_every": 9}))

    def interrupt(step: int, total: int, metrics: object) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    if join_processes().rank == 1:
        trainer._on_step = interrupt
    summary = trainer.train()
    return summary.steps, summary.interrupted


def test_a_signal_to_one_process_ends_all_after_the_same_step(tmp_path: Path) -> None:
    assert run_in_processes(2, train_and_interrupt_the_second, tmp_path) == [(3, True)] * 2
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000003"]


class Command:
    """A training command in processes of its own, which a test may disturb."""

    def __init__(self, launcher: list[str], arguments: list[str]) -> None:
        self.process = subprocess.Popen(
            [*launcher, "-m", "stepsearch", *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_step(self, folder: Path, step: int) -> None:
        deadline = time.monotonic() + 240
        while last_step(folder) < step:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, "the run hangs"
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        self.said, errors = self.process.communicate(timeout=240)
        return self.process.returncode, errors


def last_step(folder: Path) -> int:
    path = folder / "logs" / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return max((json.loads(line)["step"] for line in lines if line[-1] == "\n"), default=-1)


def test_a_run_in_processes_is_interrupted_killed_and_resumed(tmp_path: Path, world: Path, qwen_folder: Path) -> None:
    arguments = [
        *("train", "--musique-path", str(world / "data" / "train_processed.json"), "--output-dir", str(tmp_path)),
        *("--eval-musique-path", str(world / "data" / "dev_processed.json")),
        *(f"model.name={qwen_folder}", "model.max_length=512", "rollout.max_turn_tokens=4"),
        *("rollout.max_observation_tokens=64", "rollout.max_passage_tokens=32", "rollout.max_corrections=0"),
        *("training.batch_size=3", "training.max_steps=400", "reward.max_search_steps=1"),
        *("evaluation.dev_questions=3", "logging.checkpoint_every=1000", "logging.tensorboard=false"),
    ]
    two = ["--num-processes", "2"]
    run = Command([sys.executable], [*arguments, *two])
    run.wait_for_step(tmp_path, 2)
    run.process.send_signal(signal.SIGINT)
    code, errors = run.end()
    assert (code, errors.strip()) == (130, "interrupted; continue with --resume")
    stopped = last_step(tmp_path)
    assert (tmp_path / "checkpoints" / f"step-{stopped:06d}").is_dir()

    run = Command([sys.executable], [*arguments, *two, "--resume", "training.parallel=fsdp"])
    run.wait_for_step(tmp_path, stopped + 1)
    second = next(
        child for child in psutil.Process(run.process.pid).children() if child.environ().get("LOCAL_RANK") == "1"
    )
    second.send_signal(signal.SIGKILL)
    code, errors = run.end()
    assert code == 1
    assert "process 1 of 2 was killed (SIGKILL, as a lack of memory does)" in errors
    assert "go on from the last checkpoint by --resume" in errors
    assert not psutil.pid_exists(second.pid)

    # On a machine without GPUs accelerate starts more than one process by this flag alone.
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    run = Command(launcher, [*arguments, "--resume", f"training.max_steps={stopped + 2}"])
    code, errors = run.end()
    assert code == 0, errors
    assert "2 processes train together (ddp)" in run.said
    assert last_step(tmp_path) == stopped + 2
    assert (tmp_path / "checkpoints" / "best_model" / "model.safetensors").is_file()


def test_processes_are_not_started_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    flags = ["--musique-path", "x.jsonl", "--output-dir", str(tmp_path / "run"), "--num-processes", "2"]
    assert main(["train", *flags]) == 2
    assert "--num-processes starts processes itself: leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["quickstart", "compare"])
def test_what_one_process_has_to_do_is_refused_to_several(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([command, "--output-dir", str(tmp_path / "run")]) == 2
    assert f"stepsearch {command} was started in 2 processes, and runs in one" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
