"""Runs a function in several processes that train together, over gloo; they start from one that has imported torch."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

SECONDS = 120.0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["toy_run"])


def run_in_processes(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what the function, one of a module, returned in each of so many processes; none outlives the call."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pipes = [CONTEXT.Pipe() for _ in range(count)]
    processes = [
        CONTEXT.Process(target=_work, args=(pipe[1], rank, count, port, function, arguments), daemon=True)
        for rank, pipe in enumerate(pipes)
    ]
    try:
        for process in processes:
            process.start()
        for _, theirs in pipes:
            theirs.close()
        return [_receive(ours, process) for (ours, _), process in zip(pipes, processes, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _receive(connection: Connection, process: Any) -> Any:
    assert connection.poll(SECONDS), f"{process.name} says nothing"
    return connection.recv()


def _work(
    connection: Connection, rank: int, count: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    import torch

    torch.set_num_threads(1)
    if count > 1:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in told.items()}, MASTER_ADDR="127.0.0.1")
    connection.send(function(*arguments))
