"""Listening, and the processes that answer."""

import signal
import socket
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from stepsearch.errors import ConfigError
from stepsearch.serving.search_app import AppFactory

# What a client keeps open between two requests outlasts a training step.
KEEP_ALIVE_SECONDS = 75
# A request that the engine has not answered by then is given up when the server stops.
GRACE_SECONDS = 60
# A worker that reads a large index is busy, not dead.
HEALTH_SECONDS = 60
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


def serve(factory: AppFactory, listener: socket.socket, workers: int = 1) -> None:
    """Answer until SIGTERM or Ctrl-C; what was accepted by then is finished first. To be called from the main thread.

    Args:
        factory: makes the application of each process.
        listener: shared by all of them.
        workers: processes; with more than one, a worker that dies is replaced.

    Raises:
        SystemExit: a worker could not build its engine.
    """
    config = uvicorn.Config(
        factory,
        factory=True,
        workers=workers,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=HEALTH_SECONDS,
        backlog=_BACKLOG,
    )
    # uvicorn raises the signal that stopped it once more, when all is done.
    before = {number: signal.signal(number, _do_nothing) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        if workers == 1:
            uvicorn.Server(config).run([listener])
        else:
            _Workers(config, [listener]).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal."""


class _Workers(Multiprocess):
    """uvicorn's supervisor, which leaves its own socket open while the workers finish."""

    def terminate_all(self) -> None:
        # Else a client that connects meanwhile would wait for an answer that never comes.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()
