"""Starts a command in several processes on this machine, which find each other through environment variables."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from stepsearch.errors import ConfigError

KILLED, LOST = 1, 3
# How long processes may take to end by themselves after one has failed: those that wait for it on a GPU never would.
GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.05
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class _Process:
    """One of the processes; what any but the first says is kept, for when it fails."""

    process: "subprocess.Popen[bytes]"
    messages: IO[bytes] | None


def launch(argv: Sequence[str], count: int) -> int:
    """Run `stepsearch` with those arguments in `count` processes, and return the exit code of the first that failed.

    The first process speaks for all of them. When one fails the others are ended, and it is said what it died of.
    Signals are passed on to each, so that Ctrl-C ends a training run after a whole step.

    Raises:
        ConfigError: this process is itself one of several.
    """
    if "LOCAL_RANK" in os.environ:
        raise ConfigError("--num-processes starts processes itself: leave it out under accelerate launch or torchrun")
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
    }
    # Processes that share the cores wait for each other's threads.
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    with _passing_signals_on() as processes:
        processes += [_start(argv, rank, environment) for rank in range(count)]
        codes = _wait(processes)
    return _outcome(processes, codes)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _start(argv: Sequence[str], rank: int, environment: dict[str, str]) -> _Process:
    messages = tempfile.TemporaryFile() if rank else None  # noqa: SIM115 - read when the process has ended
    process = subprocess.Popen(
        [sys.executable, "-m", "stepsearch", *argv, "--num-processes", "1"],
        env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        stdout=subprocess.DEVNULL if rank else None,
        stderr=messages,
        # Ctrl-C on the terminal reaches the launcher alone, which passes it on once.
        start_new_session=True,
    )
    return _Process(process, messages)


@contextmanager
def _passing_signals_on() -> Generator[list[_Process]]:
    """Pass signals on to the processes while the block runs, and leave none of them behind."""
    processes: list[_Process] = []

    def pass_on(number: int, frame: object) -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                process.process.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in _SIGNALS}
    try:
        yield processes
    finally:
        for process in processes:
            if process.process.poll() is None:
                os.killpg(process.process.pid, signal.SIGKILL)
            process.process.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[_Process]) -> list[int | None]:
    """Return the exit codes when all have ended, or some time after one has failed: None of those that go on."""
    deadline = None
    while None in (codes := [process.process.poll() for process in processes]):
        if deadline is None and any(codes):
            deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return codes


def _outcome(processes: Sequence[_Process], codes: Sequence[int | None]) -> int:
    """Say what the run died of, unless the first process has said so, and return the exit code."""
    failed = [(rank, code) for rank, code in enumerate(codes) if code]
    if not failed:
        return 0
    # Those that only miss another process come after it; letting go of it, some abort.
    rank, code = min(failed, key=lambda pair: pair[1] in (LOST, -signal.SIGABRT))
    messages = processes[rank].messages
    if messages is not None:
        messages.seek(0)
        print(messages.read().decode(errors="replace"), end="", file=sys.stderr)
    if code > 0:
        return code
    hint = ", as a lack of memory does" if code == -signal.SIGKILL else ""
    print(
        f"error: process {rank} of {len(codes)} was killed ({signal.Signals(-code).name}{hint}), and the run was "
        "stopped: go on from the last checkpoint by --resume",
        file=sys.stderr,
    )
    return KILLED
