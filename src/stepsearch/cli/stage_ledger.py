"""Which stages of a run are finished, on disk, so that an interrupted run goes on where it was."""

import json
import resource
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepsearch.data.whole_files import write_json
from stepsearch.errors import ConfigError, DataError


class StageLedger:
    """The finished stages of a run and what each took, in one small file.

    `seconds` is wall time, `cpu_seconds` this process's processor time, both by stage; a stage that was interrupted
    keeps what it had taken until then, unless it was killed outright. `peak_memory_mb` is the most that a process held
    at the end of a stage.

    Args:
        path: the file.
        config: the run's settings; a run is not continued with others.
        resume: go on with the run that the file describes; else begin anew.

    Raises:
        ConfigError: the run to be continued had other settings.
        DataError: the file cannot be read.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], resume: bool) -> None:
        self._path = path
        self._config = dict(config)
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}
        self.peak_memory_mb = 0.0
        self._started: set[str] = set()
        self._finished: set[str] = set()
        if not resume:
            self._write()
        elif path.is_file():
            self._read()

    def is_finished(self, stage: str) -> bool:
        """Return whether a stage need not run again."""
        return stage in self._finished

    @contextmanager
    def stage(self, name: str) -> Generator[bool]:
        """Time a stage, which is finished when the block ends well; yields whether an interrupted run had begun it."""
        begun = name in self._started
        self._started.add(name)
        self._write()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield begun
            self._finished.add(name)
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - wall
            self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + time.process_time() - cpu
            self.peak_memory_mb = max(self.peak_memory_mb, peak_memory_mb())
            self._write()

    def _read(self) -> None:
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
            config = dict(record["config"])
            seconds, cpu_seconds = dict(record["seconds"]), dict(record["cpu_seconds"])
            started, finished = set(record["started"]), set(record["finished"])
            self.peak_memory_mb = float(record.get("peak_memory_mb", 0.0))
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{self._path} cannot be read: start anew without --resume, or delete it") from None
        difference = first_difference(config, self._config)
        if difference is not None:
            raise ConfigError(
                f"{self._path} belongs to a run with other settings ({difference}): give the same ones, or start anew, "
                "in another --output-dir for one"
            )
        self.seconds, self.cpu_seconds, self._started, self._finished = seconds, cpu_seconds, started, finished

    def _write(self) -> None:
        record = {
            "config": self._config,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "peak_memory_mb": self.peak_memory_mb,
            "started": sorted(self._started),
            "finished": sorted(self._finished),
        }
        write_json(self._path, record)


def peak_memory_mb() -> float:
    """Return the most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS, in KiB elsewhere.
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def is_finished(path: Path, stage: str) -> bool:
    """Return whether a ledger on disk says that a stage is finished."""
    try:
        return stage in json.loads(path.read_text(encoding="utf-8"))["finished"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def first_difference(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return the first setting that differs as `section.key=value, not value`; None where all are equal."""
    for key in dict.fromkeys((*saved, *now)):
        ours, theirs = saved.get(key), now.get(key)
        if ours == theirs:
            continue
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            return f"{key}.{first_difference(ours, theirs)}"
        return f"{key}={ours}, not {theirs}"
    return None
