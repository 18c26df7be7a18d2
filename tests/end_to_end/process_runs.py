"""Runs of the toy trainer in several processes, over gloo; the processes start from one that has imported torch."""

import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS = 240.0
# Five episodes, which two processes cannot share evenly, in minibatches of one, two and two: one has none of the first.
# The KL counts in the loss: in the reward it is rounding at first, which Adam makes as large a step of as of anything.
UNEVEN: Mapping[str, Any] = {
    "seed": 3,
    "training.batch_size": 5,
    "training.minibatch_size": 2,
    "training.kl_mode": "loss",
    "training.kl_coef": 0.1,
}
TOLERANCE = 1e-5
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["stepsearch.training.steppo_trainer", "stepsearch.cli.players"])


def run_in_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what the function returned, or raised, in each of so many processes; none outlives the call."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipes = [CONTEXT.Pipe() for _ in range(count)]
    processes = [
        CONTEXT.Process(target=_work, args=(theirs, rank, count, port, function, arguments), daemon=True)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    try:
        for process in processes:
            process.start()
        for _, theirs in pipes:
            theirs.close()
        return [_receive(ours) for ours, _ in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _receive(connection: Connection) -> Any:
    """Return what a process says; None if it dies without a word."""
    assert connection.poll(SECONDS), "a process hangs"
    try:
        return connection.recv()
    except EOFError:
        return None


def _work(
    connection: Connection, rank: int, count: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    import torch

    torch.set_num_threads(1)
    if count > 1:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in told.items()}, MASTER_ADDR="127.0.0.1")
    try:
        result = function(*arguments)
    except Exception as error:
        result = error
    connection.send(result)


def train_toy(
    folder: Path, overrides: Mapping[str, object], resume: bool = False, device: str = "cpu"
) -> list[list[float]]:
    """Train the toy policy; return the unclipped gradient of every optimiser step."""
    import torch
    from toy_run import toy_config, toy_trainer

    from stepsearch.models.tensor_shares import whole_tensor

    gradients: list[list[float]] = []
    trainer = toy_trainer(folder, toy_config({"training.max_grad_norm": 1e9, **overrides}), device=device)
    networks = trainer._networks
    for learner in (networks.policy_learner, networks.critic_learner):

        def note(optimizer: Any, arguments: Any, options: Any, learner: Any = learner) -> None:
            parts = [whole_tensor(parameter.grad).flatten() for parameter in learner.parameters]
            gradients.append(torch.cat(parts).tolist())

        if learner is not None:
            learner.optimizer.optimizer.register_step_pre_hook(note)
    if resume:
        assert trainer.resume() > 0
    trainer.train()
    return gradients


def assert_same_gradients(ours: list[list[float]], expected: list[list[float]]) -> None:
    import torch

    assert len(ours) == len(expected) > 0
    assert any(any(gradient) for gradient in expected)
    for gradient, wanted in zip(map(torch.tensor, ours), map(torch.tensor, expected), strict=True):
        assert gradient.shape == wanted.shape
        assert float((gradient - wanted).norm()) <= TOLERANCE * float(wanted.norm())


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Return what was logged, without what depends on timing, or on which process searched."""
    lines = (folder / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    untold = ("time/", "search/cache_hits")
    return [
        {
            key: value
            for key, value in json.loads(line).items()
            if not key.startswith(untold) and "per_second" not in key
        }
        for line in lines
    ]
