"""JSON records that know where they stand, so that every complaint names file, record and key."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stepsearch.errors import DataError

# `golden_docs` is 0.81 like `golden_documents`.
_LIKENESS = 0.8
_SHORTEST_MEANT = 6


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object; `where` names its file and line or position."""

    values: Mapping[str, Any]
    where: str

    def error(self, problem: str) -> DataError:
        """Return the error that says what is wrong with this record."""
        return DataError(f"{self.where}: {problem}")

    def require(self, key: str) -> Any:
        """Return the value of `key`.

        Raises:
            DataError: there is none.
        """
        if key not in self.values:
            raise self.error(f"key '{key}' is missing")
        return self.values[key]

    def text(self, key: str, default: str | None = None) -> str:
        """Return the string at `key`, or `default` where one is given and the key is absent or null.

        Raises:
            DataError: the key is missing or holds no string.
        """
        if default is not None and self.values.get(key) is None:
            return default
        value = self.require(key)
        if not isinstance(value, str):
            raise self.error(f"key '{key}' must hold a text, not {_kind(value)}")
        return value

    def filled_text(self, key: str) -> str:
        """Return the string at `key`, stripped.

        Raises:
            DataError: the key is missing, holds no string, or a blank one.
        """
        value = self.text(key).strip()
        if not value:
            raise self.error(f"key '{key}' is blank")
        return value

    def identifier(self, key: str, default: str | None = None) -> str:
        """Return the string or whole number at `key` as a string."""
        value = self.values.get(key)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else self.text(key, default)

    def whole_number(self, key: str, default: int | None = None) -> int:
        """Return the whole number at `key`, or `default` where one is given and the key is absent or null.

        Raises:
            DataError: the key is missing or holds something else.
        """
        if default is not None and self.values.get(key) is None:
            return default
        value = self.require(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(f"key '{key}' must hold a whole number, not {_kind(value)}")
        return value

    def items(self, key: str) -> list[Any]:
        """Return the list at `key`.

        Raises:
            DataError: the key is missing or holds no list.
        """
        value = self.require(key)
        if not isinstance(value, list):
            raise self.error(f"key '{key}' must hold a list, not {_kind(value)}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the strings of the list at `key`.

        Raises:
            DataError: the key is missing or holds no list of strings.
        """
        values = self.items(key)
        if not all(isinstance(value, str) for value in values):
            raise self.error(f"key '{key}' must hold a list of texts")
        return tuple(values)

    def records(self, key: str) -> list["Record"]:
        """Return the objects of the list at `key`.

        Raises:
            DataError: the key is missing or holds no list of objects.
        """
        return [as_record(value, f"{self.where}, {key}[{index}]") for index, value in enumerate(self.items(key))]

    def refuse_misspelt(self, known: frozenset[str]) -> None:
        """Refuse an unknown key that is nearly a known one which is not there; other unknown keys are left alone.

        Raises:
            DataError: there is such a key.
        """
        for key in self.values:
            if key not in known:
                meant = _meant(str(key), known)
                if meant is not None and meant not in self.values:
                    raise self.error(f"unknown key {key}; did you mean {meant}?")


@lru_cache(maxsize=1024)
def _meant(key: str, known: frozenset[str]) -> str | None:
    """Return the known key that another one nearly is; short ones are too near to other words to be meant."""
    candidates = sorted(name for name in known if len(name) >= _SHORTEST_MEANT)
    return next(iter(difflib.get_close_matches(key, candidates, n=1, cutoff=_LIKENESS)), None)


def as_record(value: Any, where: str) -> Record:
    """Return a JSON value as a record.

    Raises:
        DataError: the value is no object.
    """
    if not isinstance(value, dict):
        raise DataError(f"{where} must be a JSON object, not {_kind(value)}")
    return Record(value, where)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
