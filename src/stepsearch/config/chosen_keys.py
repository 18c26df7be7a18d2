"""Which settings the user chose a value for."""

from collections.abc import Sequence
from pathlib import Path

from stepsearch.config.loading import load_config
from stepsearch.config.section import Section


def overridden_keys(overrides: Sequence[str]) -> frozenset[str]:
    """Return the dotted keys that overrides set."""
    return frozenset(override.partition("=")[0].strip() for override in overrides)


def asked_keys(path: str | Path | None, overrides: Sequence[str]) -> frozenset[str]:
    """Return the dotted keys that the user chose a value for, in a YAML file or in overrides.

    A section that a file writes out in full, as config/config.yaml and copies of it do, lists defaults: of its keys
    only those with another value are a choice.

    Raises:
        ConfigError: as `load_config`.
    """
    keys = set(overridden_keys(overrides))
    for name, section in () if path is None else load_config(path):
        if isinstance(section, Section):
            written, defaults = section.model_fields_set, type(section)()
            in_full = len(written) == len(type(section).model_fields)
            chosen = {key for key in written if not in_full or getattr(section, key) != getattr(defaults, key)}
            keys |= {f"{name}.{key}" for key in chosen}
    return frozenset(keys)
