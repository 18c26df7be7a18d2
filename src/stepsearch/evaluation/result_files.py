"""The names of an evaluation's files, by which it is written, gone on with, compared and shown."""

from dataclasses import dataclass
from pathlib import Path

from stepsearch.errors import DataError

SUMMARY = "evaluation_summary.json"
_PREFIX, _SUFFIX = "predictions_", ".jsonl"


@dataclass(frozen=True, slots=True)
class PredictionsFile:
    """The predictions of one method on one dataset; `method` is empty where the evaluated model itself answered."""

    path: Path
    dataset: str
    method: str

    @property
    def name(self) -> str:
        """Dataset and method as they stand in the file's name."""
        return f"{self.dataset}.{self.method}" if self.method else self.dataset


def predictions_path(folder: Path, dataset: str, method: str = "") -> Path:
    """Return the file of a method's predictions on a dataset; of the evaluated model's own without a method."""
    return folder / f"{_PREFIX}{dataset}{f'.{method}' if method else ''}{_SUFFIX}"


def predictions_file(path: Path) -> PredictionsFile:
    """Return whose predictions a file has by its name."""
    dataset, _, method = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX).partition(".")
    return PredictionsFile(path, dataset, method)


def results_folder(path: Path) -> Path:
    """Return the folder of the results: of a run's folder the one in it, else the path itself."""
    return path / "results" if (path / "results").is_dir() else path


def find_predictions(folder: Path) -> list[PredictionsFile]:
    """Return the predictions files of a results folder: the model's own first, then by method.

    Raises:
        DataError: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: name the output folder of an evaluation")
    found = [predictions_file(path) for path in folder.glob(f"{_PREFIX}*{_SUFFIX}")]
    if not found:
        raise DataError(f"{folder} has no {_PREFIX}<dataset>{_SUFFIX}: name the output folder of an evaluation")
    return sorted(found, key=lambda file: (file.method, file.dataset))
