"""What a server counts, in Prometheus' text format.

Written here rather than with prometheus-client: `/metrics` is answered by whichever worker accepts the connection and
has to tell of all of them, which takes numbers in shared files anyway, and what is left of a client library is the
forty lines that print them.
"""

import mmap
import os
from bisect import bisect_left
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "stepsearch_search_"
_COUNTERS = {
    "queries": "Queries of accepted requests.",
    "shared_queries": "Queries that joined an identical one.",
    "engine_batches": "Calls of the engine.",
    "engine_queries": "Queries the engine was asked.",
    "engine_failures": "Queries it gave no answer to.",
    "engine_seconds": "Seconds spent waiting for the engine.",
    "request_seconds": "Seconds from a request's first byte to its answer.",
}
_GAUGES = {
    "open_requests": "Requests being answered now.",
    "waiting_queries": "Queries waiting for the engine or being answered now.",
}
_STATUSES = (200, 400, 401, 405, 408, 413, 422, 499, 500, 502, 503)
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_FIELDS = (
    *_COUNTERS,
    *_GAUGES,
    *(f"status_{status}" for status in _STATUSES),
    *(f"bucket_{index}" for index in range(len(_BUCKETS) + 1)),
)
_POSITIONS = {name: position for position, name in enumerate(_FIELDS)}
_SIZE = 8 * len(_FIELDS)


class ServerMetrics:
    """Numbers of one process, kept where the other workers can read them.

    Args:
        folder: shared by the workers of one server, with a file for each process that has been one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / f"{os.getpid()}.metrics"
        path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._values = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("d")

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        self._values[_POSITIONS[name]] += amount

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._values[_POSITIONS[name]] = value

    def answered(self, status: int, seconds: float) -> None:
        """Count a request with the status and the time of its answer."""
        self.add(f"status_{status}")
        self.add("request_seconds", seconds)
        self.add(f"bucket_{bisect_left(_BUCKETS, seconds)}")

    def render(self) -> str:
        """Return the numbers of all workers together."""
        totals = self._totals()
        lines = _family("requests_total", "Requests to /retrieve by the status of their answer.", "counter")
        lines += [_sample("requests_total", totals[f"status_{code}"], f'status="{code}"') for code in _STATUSES]
        for name, text in _COUNTERS.items():
            if name != "request_seconds":
                lines += [*_family(f"{name}_total", text, "counter"), _sample(f"{name}_total", totals[name])]
        for name, text in _GAUGES.items():
            lines += [*_family(name, text, "gauge"), _sample(name, totals[name])]
        return "\n".join([*lines, *_histogram(totals), ""])

    def _totals(self) -> dict[str, float]:
        """Return the sums over all processes; one that has ended still counts, but has nothing under way."""
        totals = dict.fromkeys(_FIELDS, 0.0)
        for path in self._folder.glob("*.metrics"):
            values = path.read_bytes()
            if len(values) == _SIZE:
                ended = not _is_running(int(path.stem))
                for name, value in zip(_FIELDS, memoryview(values).cast("d"), strict=True):
                    totals[name] += 0.0 if ended and name in _GAUGES else value
        return totals


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _family(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} {kind}"]


def _sample(name: str, value: float, labels: str = "") -> str:
    return f"{_PREFIX}{name}{f'{{{labels}}}' if labels else ''} {value:.10g}"


def _histogram(totals: dict[str, float]) -> list[str]:
    name = "request_seconds"
    lines = _family(name, _COUNTERS[name], "histogram")
    count = 0.0
    for index, bound in enumerate((*_BUCKETS, "+Inf")):
        count += totals[f"bucket_{index}"]
        lines.append(_sample(f"{name}_bucket", count, f'le="{bound}"'))
    return [*lines, _sample(f"{name}_sum", totals[name]), _sample(f"{name}_count", count)]
