"""Models that search engines read with, by folder or hub name."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stepsearch.hub_lookup import HubAnswer, ask_hub


def load_pretrained(kind: Any, name: str, **options: Any) -> Any:
    """Return what a class of transformers' makes of a model, without a bar for what takes a moment.

    Args:
        kind: the class, with `from_pretrained`.
        name: folder or hub name.
        options: of `from_pretrained`.

    Raises:
        OSError: there is no such model, or the hub is needed and does not answer.
        ValueError: its files are damaged or of another kind.
        KeyError: the same.
    """
    place, is_local = _place(name)
    with _no_bars():
        return kind.from_pretrained(place, local_files_only=is_local, **options)


def file_of_model(name: str, file: str) -> Path | None:
    """Return the path of a model's file; None where the model has none of that name, or is none."""
    from transformers.utils.hub import cached_file

    try:
        place, is_local = _place(name)
    except OSError:
        return None
    with _no_bars():
        path = cached_file(
            place,
            file,
            local_files_only=is_local,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    return None if path is None else Path(path)


def _place(name: str) -> tuple[str, bool]:
    """Return where a model is, and whether what is on this machine has to do.

    Raises:
        OSError: it is no folder, and the hub has none of that name.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder), True
    answer = ask_hub(name)
    if answer is HubAnswer.LACKS:
        raise OSError("it is neither a folder here nor a model on the hub that may be read without logging in")
    return name, answer is HubAnswer.SILENT


@contextmanager
def _no_bars() -> Generator[None]:
    from transformers.utils import logging

    were_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_on:
            logging.enable_progress_bar()
