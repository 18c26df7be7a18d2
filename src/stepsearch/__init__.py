"""Train language models to search, with a reward for every search step."""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {"Config": "stepsearch.config", "load_config": "stepsearch.config", "train": "stepsearch.cli.train"}


def __getattr__(name: str) -> Any:
    """Import what the package offers when it is first asked for: training brings torch, the rest need not wait."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
