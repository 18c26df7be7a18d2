"""Where a run keeps its files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stepsearch.errors import DataError

_PARTS = ("checkpoints", "logs", "results")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run; `checkpoints`, `logs` and `results` lie in it."""

    root: Path

    @classmethod
    def at(cls, output_dir: str | Path, parts: Sequence[str] = _PARTS) -> "RunFolder":
        """Return the run whose root, or whose `checkpoints`, `logs` or `results`, is `output_dir`.

        Args:
            output_dir: the folder that the user named.
            parts: folders to make in the run.

        Raises:
            DataError: the folders cannot be made or written to.
        """
        given = Path(output_dir)
        run = cls(given.parent if given.name in _PARTS else given)
        for folder in (run.root, *(run.root / part for part in parts)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(f"output folder {folder} cannot be made: {error.strerror}") from None
            if not os.access(folder, os.W_OK | os.X_OK):
                raise DataError(f"output folder {folder} cannot be written to: permission denied")
        return run

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints and of the best model."""
        return self.root / "checkpoints"

    @property
    def best_model(self) -> Path:
        """Folder of the best model so far."""
        return self.checkpoints / "best_model"

    @property
    def logs(self) -> Path:
        """Folder of the log, the metrics, TensorBoard and sampled trajectories."""
        return self.root / "logs"

    @property
    def results(self) -> Path:
        """Folder of what evaluations write."""
        return self.root / "results"
