"""Files and folders that are there as a whole or not at all."""

import json
import os
import shutil
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


def write_text(path: Path, text: str) -> None:
    """Write a text file in one piece.

    Raises:
        DataError: it cannot be written.
    """
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, record: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a JSON file in one piece.

    Raises:
        DataError: it cannot be written.
    """
    write_text(path, json.dumps(record, indent=indent, ensure_ascii=False) + "\n")


def replace_folder(source: Path, target: Path) -> None:
    """Move a folder to `target`, on the same file system; one that stood there goes once the new one is in place."""
    previous = target.with_name(f".{target.name}.previous")
    shutil.rmtree(previous, ignore_errors=True)
    if target.exists():
        os.replace(target, previous)
    os.replace(source, target)
    shutil.rmtree(previous, ignore_errors=True)


def require_writable(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse a file that could not be written in the end, before the work that it is to hold; its folder is made.

    Args:
        path: the file.
        inputs: what the work reads; none of them may be it.

    Raises:
        DataError: the file or its folder cannot be written, or it is an input.
    """
    if path.exists() and any(source.exists() and source.samefile(path) for source in inputs):
        raise DataError(f"the output {path} is one of the inputs: name another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None
    if path.is_dir():
        raise DataError(f"{path} is a folder: name the file in it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DataError(f"{path} cannot be written: permission denied")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # Its folder is no folder: then nothing was written.
        return
