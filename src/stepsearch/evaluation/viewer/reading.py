"""The files that a report is made of. Each problem is one error that names the file, and the line where it has any."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stepsearch.config import RewardSettings
from stepsearch.errors import DataError
from stepsearch.evaluation.prediction_log import Prediction
from stepsearch.evaluation.result_files import SUMMARY

METRICS, TRAJECTORIES = "metrics.jsonl", "trajectories.jsonl"


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Return the summary of a results folder; None where it has none.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / SUMMARY
    if not path.exists():
        return None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({_reason(error)}): evaluate again") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("datasets"), dict):
        raise DataError(f"{path} is no evaluation summary, it lacks `datasets`: evaluate again")
    return summary


def reward_settings(summary: Mapping[str, Any] | None, folder: Path) -> RewardSettings:
    """Return the settings of the reward that a summary was written under; the defaults where it does not say.

    Raises:
        DataError: it names settings that there are not.
    """
    config = (summary or {}).get("config") or {}
    try:
        return RewardSettings.model_validate(config.get("reward") or {})
    except (ValidationError, AttributeError):
        raise DataError(f"{folder / SUMMARY}: config.reward is of another version: evaluate again") from None


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every record of a JSONL file with where it stands, for errors.

    Raises:
        DataError: the file cannot be read, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _record(line, where)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}") from None


def count_lines(path: Path) -> int:
    """Return how many lines a file has.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with path.open("rb") as lines:
            return sum(1 for _ in lines)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}") from None


def _record(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        raise DataError(f"{where}: no whole JSON record; delete the line, or write the file again") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: a JSON object is expected, not a {type(record).__name__}")
    return record


def prediction_of(record: Mapping[str, Any], where: str) -> Prediction:
    """Return a record's trajectory, with what an evaluation knows of it besides.

    Raises:
        DataError: it is not there or not whole.
    """
    try:
        return Prediction.from_json(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: no whole `trajectory` ({_reason(error)}); write the file again") from None


def read_training_logs(folder: Path) -> tuple[list[dict[str, Any]], list[tuple[str, dict[str, Any]]]]:
    """Return the metrics of every step, and the logged episodes with where each stands; either may be missing.

    Raises:
        DataError: both are missing, or a line cannot be read.
    """
    metrics, trajectories = folder / METRICS, folder / TRAJECTORIES
    if not metrics.exists() and not trajectories.exists():
        raise DataError(
            f"{folder} holds neither {METRICS} nor {TRAJECTORIES}: name the `logs` folder of a training run"
        )
    steps = [record for _, record in read_lines(metrics)] if metrics.exists() else []
    return steps, list(read_lines(trajectories)) if trajectories.exists() else []


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON from line {error.lineno} on"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {error}"
