"""Files that are there as a whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from stepsearch.errors import DataError


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Give a name beside `path` to write to; what was written takes the place of `path` once the block is through.

    A block that fails leaves what was there before. The folder is made where it is missing.

    Raises:
        DataError: the file or its folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        _remove(beside)


def require_writable(path: Path) -> None:
    """Refuse a file that could not be written in the end, before the work that it is to hold; its folder is made.

    Raises:
        DataError: the file or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise DataError(f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'permission denied'}")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # Its folder is no folder: then nothing was written.
        return
