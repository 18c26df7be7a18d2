"""Where a run keeps its files."""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
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

    @contextmanager
    def held(self) -> Generator[None]:
        """Keep the folder to one training at a time while the block runs, where the file system can; a crash frees it.

        Raises:
            DataError: another process, or another training of this one, holds it.
        """
        if find_spec("fcntl") is None:  # Windows
            yield
            return
        import fcntl

        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(
                    f"another process trains in {self.root}: wait until it is done, or name another --output-dir"
                ) from None
            except OSError:
                pass  # Some network file systems cannot lock a folder.
            yield
        finally:
            os.close(descriptor)

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
