"""What `stepsearch compare` compares: methods, each of which is a name and settings of its own."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsearch.config import Config, asked_keys, load_config
from stepsearch.errors import ConfigError
from stepsearch.evaluation.comparison import BEFORE

METHODS: dict[str, tuple[str, ...]] = {
    "steppo": (),
    "ppo": ("reward.step_scale=0", "reward.gamma_key=0"),
    "gain": ("reward.redundancy_penalty=false", "reward.gamma_key=0"),
    "penalty": ("reward.information_gain=false", "reward.gamma_key=0"),
    "key": ("reward.step_scale=0",),
    "gain-penalty": ("reward.gamma_key=0",),
}
"""Name to overrides on top of the settings as given: the whole method, outcome-only PPO, and PPO with a single term
of the step-wise reward or two."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# A comma ends an override only where another one begins: those inside a list are part of the value.
_NEXT_OVERRIDE = re.compile(r",(?=\s*[A-Za-z_]\w*(?:\.\w+)+=)")
RESERVED = ("start", "checkpoints", "logs", "results")
"""What no method's name begins with: folders of these names have another meaning."""


@dataclass(frozen=True, slots=True)
class Method:
    """One side of a comparison.

    Attributes:
        name: also the name of its runs' folders.
        settings: its overrides, or its config file: what the report says of it.
        config: all its settings; the seed is the comparison's.
        engine_asked: whether the search engine was chosen by the user.
    """

    name: str
    settings: tuple[str, ...]
    config: Config
    engine_asked: bool

    def to_json(self) -> dict[str, Any]:
        """Return what a report says of the method."""
        return {"name": self.name, "settings": list(self.settings)}


def read_methods(
    names: Sequence[str], own: Sequence[str], config_file: Path | None, overrides: Sequence[str]
) -> list[Method]:
    """Return the methods to compare, in order; the first is the one that the others are compared with.

    Args:
        names: keys of `METHODS`, each word one or several with commas between.
        own: the user's, each `NAME=FILE.yaml` or `NAME=section.key=value,section.key=value`.
        config_file: the settings that all but those with a file of their own begin with.
        overrides: apply to all methods; what a method itself sets wins over them.

    Raises:
        ConfigError: a method is unknown, named twice, malformed, or has impossible settings.
    """
    listed = [name.strip() for word in names for name in word.split(",") if name.strip()]
    methods = [_known(name, config_file, overrides) for name in listed]
    methods += [_own(text, config_file, overrides) for text in own]
    if not methods:
        raise ConfigError("there is no method to compare: name some with --methods or --method")
    twice = [name for name, count in Counter(method.name for method in methods).items() if count > 1]
    if twice:
        raise ConfigError(f"method {twice[0]} is named twice: give each another name")
    return methods


def _known(name: str, config_file: Path | None, overrides: Sequence[str]) -> Method:
    if name not in METHODS:
        raise ConfigError(
            f"unknown method {name}: known are {', '.join(METHODS)}; one of your own is --method NAME=FILE.yaml or "
            "--method NAME=section.key=value"
        )
    return _method(name, METHODS[name], config_file, overrides)


def _own(text: str, config_file: Path | None, overrides: Sequence[str]) -> Method:
    name, _, settings = text.partition("=")
    if not _NAME.fullmatch(name) or name.startswith(RESERVED) or name == BEFORE or not settings:
        raise ConfigError(
            f"method '{text}' is not of the form NAME=FILE.yaml or NAME=section.key=value,section.key=value, where "
            f"NAME has letters, digits, '_', '-' and '.' and does not begin with {' or '.join(RESERVED)}, nor "
            f"is {BEFORE}"
        )
    if settings.endswith((".yaml", ".yml")) and "=" not in settings:
        file = Path(settings).expanduser()
        return _method(name, (), file, overrides, described=(str(file),))
    return _method(name, tuple(part.strip() for part in _NEXT_OVERRIDE.split(settings)), config_file, overrides)


def _method(
    name: str,
    settings: tuple[str, ...],
    config_file: Path | None,
    overrides: Sequence[str],
    described: tuple[str, ...] | None = None,
) -> Method:
    everything = [*overrides, *settings]
    if any(override.partition("=")[0].strip() == "seed" for override in everything):
        raise ConfigError(f"method {name}: seeds are the comparison's: choose them by --seeds and --first-seed")
    try:
        config = load_config(config_file, everything)
        engine_asked = "search.engine_type" in asked_keys(config_file, everything)
    except ConfigError as error:
        raise ConfigError(f"method {name}: {error}") from None
    return Method(name, settings if described is None else described, config, engine_asked)
