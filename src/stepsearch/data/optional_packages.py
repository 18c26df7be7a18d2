"""Packages that only some formats need."""

import importlib
from typing import Any

from stepsearch.errors import DataError


def import_optional(module: str, purpose: str) -> Any:
    """Return a module of the extra `data`.

    Args:
        module: its full name.
        purpose: what it is needed for, for the message.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise DataError(f"{purpose} needs {package}: pip install 'stepsearch[data]'") from None
