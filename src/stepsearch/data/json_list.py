"""The items of one long JSON list, parsed one by one: published train files are gigabytes in a single list."""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from stepsearch.errors import DataError

_CHUNK = 1 << 20
_SPACES = " \t\n\r"


def read_list(file: BinaryIO, where: str) -> Iterator[tuple[Any, str]]:
    """Yield each item of a JSON list with its text; in memory is one item, and the part of the file around it.

    Args:
        file: UTF-8, maybe with a byte order mark.
        where: names it in messages.

    Raises:
        DataError: the file is not UTF-8, not JSON, cut off, or goes on after the list.
    """
    text = _Text(file, where)
    text.expect("[")
    if text.next_mark() == "]":
        text.expect("]")
    else:
        yield text.item()
        while text.next_mark() == ",":
            text.expect(",")
            yield text.item()
        text.expect("]")
    if text.next_mark():
        raise text.error("extra data", text.position)


def problem_of(error: json.JSONDecodeError) -> str:
    """Return what is wrong as words that `at` and a position can follow."""
    return f"{error.msg[0].lower()}{error.msg[1:]}".removesuffix(" at")


class _Text:
    """The file's text around a position that only moves forward."""

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._reader = codecs.getreader("utf-8-sig")(file)
        self._where = where
        self._decoder = json.JSONDecoder()
        self._held = ""
        self.position = 0
        # Of the text that is no longer held.
        self._lines = 0
        self._columns = 0

    def next_mark(self) -> str:
        """Return the next character that is no white space without passing it; empty at the end."""
        while True:
            while self.position < len(self._held):
                if self._held[self.position] not in _SPACES:
                    return self._held[self.position]
                self.position += 1
            if not self._read_on():
                return ""

    def expect(self, mark: str) -> None:
        """Pass that character."""
        if self.next_mark() != mark:
            raise self.error(f"expecting '{mark}'", self.position)
        self.position += 1

    def item(self) -> tuple[Any, str]:
        """Pass a value; returns it with its text."""
        self.next_mark()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._held, self.position)
            except json.JSONDecodeError as error:
                within = error.pos - self.position
                if not self._read_on():
                    raise self.error(problem_of(error), self.position + within) from None
            except (RecursionError, ValueError) as error:
                raise DataError(f"{self._where} is no JSON that can be read: {error}") from None
            else:
                text, self.position = self._held[self.position : end], end
                return value, text

    def error(self, problem: str, position: int) -> DataError:
        """Return the error that says what is wrong at a position of the held text."""
        line = self._lines + self._held.count("\n", 0, position) + 1
        before = self._held.rfind("\n", 0, position)
        column = position - before if before >= 0 else self._columns + position + 1
        return DataError(
            f"{self._where} is not whole JSON ({problem} at line {line}, column {column}): mend it there, or get the "
            "file again if it was cut off"
        )

    def _read_on(self) -> bool:
        """Let go of the text before the position and hold the next part too; returns whether there is one."""
        try:
            # Growing with what is held, so that an item of many parts is not tried again for each of them.
            part = self._reader.read(max(_CHUNK, len(self._held) - self.position))
        except UnicodeDecodeError:
            raise DataError(f"{self._where} is not UTF-8 text: save the file as UTF-8") from None
        passed = self._held[: self.position]
        if "\n" in passed:
            self._lines += passed.count("\n")
            self._columns = len(passed) - passed.rfind("\n") - 1
        else:
            self._columns += len(passed)
        self._held, self.position = self._held[self.position :] + part, 0
        return bool(part)
