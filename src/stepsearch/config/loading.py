"""Settings from a YAML file and dotted overrides; a mistake is one line that names where it was written."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from stepsearch.config.merging import merged
from stepsearch.config.tree import Config, known_keys
from stepsearch.errors import ConfigError


def load_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), base: Mapping[str, Any] | None = None
) -> Config:
    """Return the settings of a YAML file (defaults without one) with `section.key=value` overrides applied.

    Args:
        path: the YAML file.
        overrides: they win over the file.
        base: a tree of settings that the file wins over, such as those a model was trained with.

    Raises:
        ConfigError: the file is missing or no YAML mapping, a key is unknown (the nearest known one is named), a value
            has the wrong type, or settings exclude each other.
    """
    try:
        return Config.model_validate(_tree(path, overrides, base or {}))
    except ValidationError as error:
        raise ConfigError(_explain(error, path, overrides)) from None


def refuse_impossible(path: str | Path | None, overrides: Sequence[str]) -> None:
    """Refuse what `load_config` refuses whatever the base is, before anything slow is imported.

    Raises:
        ConfigError: the file is missing or no YAML mapping, a key is unknown, or a value has the wrong type.
    """
    try:
        Config.model_validate(_tree(path, overrides, {}))
    except ValidationError as error:
        # Settings that exclude each other may not do so beside those of a base.
        if error.errors()[0]["type"] != "value_error":
            raise ConfigError(_explain(error, path, overrides)) from None


def _tree(path: str | Path | None, overrides: Sequence[str], base: Mapping[str, Any]) -> dict[str, Any]:
    tree = merged(base, {} if path is None else _read_yaml(Path(path)))
    for override in overrides:
        _apply(tree, override)
    return tree


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"config file {path} cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ConfigError(f"config file {path}{line} is not YAML: {getattr(error, 'problem', error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config file {path} must hold a mapping of sections, not a {type(tree).__name__}")
    return {section: values for section, values in tree.items() if values is not None}


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override '{override}' is not of the form section.key=value")
    *sections, name = key.strip().split(".")
    for section in sections:
        branch: Any = tree.setdefault(section, {})
        if not isinstance(branch, dict):
            raise ConfigError(f"override '{override}': {section} is not a section")
        tree = branch
    try:
        tree[name] = yaml.safe_load(text)
    except yaml.YAMLError:
        tree[name] = text


def _explain(error: ValidationError, path: str | Path | None, overrides: Sequence[str]) -> str:
    """Return the first problem as one line that names where it was written."""
    problem = error.errors()[0]
    key = re.sub(r"\.(\d+)", r"[\1]", ".".join(str(part) for part in problem["loc"]))
    culprit = next((override for override in reversed(overrides) if _sets(override, problem["loc"])), None)
    source = f"override '{culprit}': " if culprit else f"config file {path}: " if path else "config: "
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, [*known_keys(), *Config.model_fields], n=1, cutoff=0.5)
        return f"{source}unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return source + message
    return f"{source}{key}: {message[0].lower()}{message[1:]}, got {problem['input']!r}"


def _sets(override: str, location: Sequence[int | str]) -> bool:
    """Return whether an override writes what stands at that place of the tree, a part of it, or all around it."""
    key = override.partition("=")[0].strip().split(".")
    return bool(location) and all(a == b for a, b in zip(key, map(str, location), strict=False))
