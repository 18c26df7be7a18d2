"""Listening, and the processes that answer."""

import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from stepsearch.errors import ConfigError, SearchError, StepSearchError
from stepsearch.serving.bounded_http import http_protocol

logger = logging.getLogger(__name__)

# What a client keeps open between two requests outlasts a training step.
KEEP_ALIVE_SECONDS = 75
# A request that the engine has not answered by then is given up when the server stops.
GRACE_SECONDS = 60
# How long a worker that SIGHUP starts may read its index before the old one is kept.
START_SECONDS = 60
_BACKLOG = 2048
_LAST_PORT = 65_535


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections; port 0 takes any that is free.

    Raises:
        ConfigError: the address cannot be used.
    """
    if port > _LAST_PORT:
        raise ConfigError(f"port {port} is no port: choose a --port up to {_LAST_PORT}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"cannot listen on port {port} of {host} ({reason}): choose another --port or --host"
        ) from None


def address_of(listener: socket.socket, host: str) -> str:
    """Return the URL of a server that was told to listen on `host`."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def is_loopback(listener: socket.socket) -> bool:
    """Return whether only this machine can reach a server."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def serve(factory: Callable[[], ASGIApp], listener: socket.socket, workers: int = 1) -> None:
    """Answer until SIGTERM or Ctrl-C; what was accepted by then is finished first. To be called from the main thread.

    Args:
        factory: makes the application of each process; with more than one, it is sent to them.
        listener: shared by all of them.
        workers: processes; with more than one, a worker that dies is replaced.

    Raises:
        StepSearchError: the engine cannot be built.
    """
    config = uvicorn.Config(
        partial(_settled, factory) if workers == 1 else _WorkerFactory(factory),
        factory=True,
        workers=workers,
        http=http_protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=START_SECONDS,
        backlog=_BACKLOG,
    )
    # uvicorn raises the signal that stopped it once more, when all is done.
    before = {number: signal.signal(number, _do_nothing) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if workers == 1:
            uvicorn.Server(config).run([listener])
        else:
            _run_workers(config, listener)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _settled(factory: Callable[[], ASGIApp]) -> ASGIApp:
    """Return the application of this process, which is there to stay.

    Python looks for garbage again and again among all that there is, which took 7 % of the processor time of a server
    that is asked in large batches. Nothing that is made until here will be any.
    """
    app = factory()
    gc.collect()
    gc.freeze()
    return app


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal."""


@dataclass(frozen=True, slots=True)
class _WorkerFactory:
    """Makes a worker's application, or ends the worker so that it is not started again and again."""

    factory: Callable[[], ASGIApp]

    def __call__(self) -> ASGIApp:
        try:
            return _settled(self.factory)
        except StepSearchError as error:
            logger.error("error: %s", error)
            sys.exit(STARTUP_FAILURE)


def _run_workers(config: uvicorn.Config, listener: socket.socket) -> None:
    workers = _Workers(config, [listener])
    workers.run()
    if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
        raise SearchError("a worker could not build the search engine; the lines above say why")


class _Workers(Multiprocess):
    """uvicorn's supervisor, which leaves its own socket open while the workers finish."""

    def terminate_all(self) -> None:
        # Else a client that connects meanwhile would wait for an answer that never comes.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        # Without uvicorn's question whether the living are well: a worker that holds its interpreter while it reads a
        # large index would be killed for it, and one that has just died be waited for.
        for index, process in enumerate(self.processes):
            if process.process.is_alive() or self.should_exit.is_set():
                continue
            if process.exitcode == STARTUP_FAILURE:
                self.should_exit.set()
                return
            logger.warning("worker %s died with exit code %s: starting another", process.pid, process.exitcode)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()
