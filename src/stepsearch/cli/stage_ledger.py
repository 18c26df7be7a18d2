"""Which stages of a run are finished, on disk, so that an interrupted run goes on where it was."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepsearch.errors import ConfigError, DataError
from stepsearch.evaluation.report import write_json


class StageLedger:
    """The finished stages of a run and the seconds each took, in one small file.

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
        self.started: set[str] = set()
        if resume and path.is_file():
            self._read()
        self._write()

    def start(self, stage: str) -> bool:
        """Note that a stage begins; return whether an interrupted run had begun it."""
        begun = stage in self.started
        self.started.add(stage)
        self._write()
        return begun

    def finish(self, stage: str, seconds: float) -> None:
        """Note that a stage is finished."""
        self.seconds[stage] = seconds
        self._write()

    def _read(self) -> None:
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
            config, seconds, started = record["config"], dict(record["seconds"]), set(record["started"])
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(f"{self._path} cannot be read: start anew without --resume") from None
        if config != self._config:
            raise ConfigError(
                f"{self._path} belongs to a run with other settings: give the same ones, or start anew without --resume"
            )
        self.seconds, self.started = seconds, started

    def _write(self) -> None:
        write_json(self._path, {"config": self._config, "seconds": self.seconds, "started": sorted(self.started)})
