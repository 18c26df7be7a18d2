"""JSON records that know where they stand, so that every complaint names file, record and key.

Files are JSON lines or one JSON list, whichever the content is, and may be packed with gzip; both are streamed.
"""

import gzip
import json
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from stepsearch.data.json_list import read_list
from stepsearch.data.whole_files import replacing
from stepsearch.errors import DataError

_GZIP_START = b"\x1f\x8b"


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


def as_record(value: Any, where: str) -> Record:
    """Return a JSON value as a record.

    Raises:
        DataError: the value is no object.
    """
    if not isinstance(value, dict):
        raise DataError(f"{where} must be a JSON object, not {_kind(value)}")
    return Record(value, where)


def read_records(path: Path) -> Generator[Record]:
    """Yield every record of a file of JSON lines or of one JSON list.

    Raises:
        DataError: the file is missing, empty, cut off, not UTF-8, or holds something else than objects.
    """
    with open_unpacked(path) as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        file.seek(0)
        records = _listed(file, path) if start.startswith(b"[") else _lines(file, path)
        empty = True
        for record in records:
            empty = False
            yield record
    if empty:
        raise DataError(f"{path} is empty: it holds no record")


@contextmanager
def open_unpacked(path: Path) -> Generator[BinaryIO]:
    """Give the content of a file, unpacked where it starts as gzip does, whatever its name.

    Raises:
        DataError: the file cannot be read, or its packing is cut off or damaged.
    """
    with open_binary(path) as file:
        packed = file.read(len(_GZIP_START)) == _GZIP_START
        file.seek(0)
        if not packed:
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield cast(BinaryIO, unpacked)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is no whole gzip file ({error}): cut off or damaged, get it again") from None


def open_binary(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        DataError: the file is missing, a folder, or not readable.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder: name the file in it") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def decode_utf8(raw: bytes, where: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark.

    Raises:
        DataError: the bytes are not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text (byte {error.start}): save the file as UTF-8") from None


def write_json_list(path: Path, items: Iterable[Mapping[str, Any]]) -> int:
    """Write items as a JSON list, one a line, in one piece: a failure leaves what was there before.

    Returns:
        How many items were written.
    """
    count = 0
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="\n") as file:
        for item in items:
            file.write(",\n" if count else "[\n")
            file.write(json.dumps(item, ensure_ascii=False))
            count += 1
        file.write("\n]\n" if count else "[]\n")
    return count


def write_json_lines(path: Path, items: Iterable[Mapping[str, Any]]) -> int:
    """Write items as JSON lines in one piece, packed with gzip where the name ends in `.gz`.

    Returns:
        How many items were written.
    """
    count = 0
    with replacing(path) as beside, _packing(path, beside) as file:
        for item in items:
            file.write(f"{json.dumps(item, ensure_ascii=False)}\n".encode())
            count += 1
    return count


@contextmanager
def _packing(path: Path, beside: Path) -> Generator[BinaryIO]:
    with beside.open("wb") as file:
        if path.suffix != ".gz":
            yield file
            return
        # No file name and no time inside: equal content gives equal files.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
            yield cast(BinaryIO, packed)


def _lines(file: BinaryIO, path: Path) -> Iterator[Record]:
    for number, raw in enumerate(file, start=1):
        where = f"{path}, line {number}"
        line = decode_utf8(raw, where)
        if line.strip():
            yield as_record(_parse(line, where), where)


def _listed(file: BinaryIO, path: Path) -> Iterator[Record]:
    for position, (value, text) in enumerate(read_list(file, str(path)), start=1):
        where = f"{path}, record {position}"
        _refuse_half_characters(value, text, where)
        yield as_record(value, where)


def _parse(text: str, where: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg[0].lower()}{error.msg[1:]} at line {error.lineno}, column {error.colno}"
        raise DataError(f"{where} is not whole JSON ({reason}): cut off or damaged, get it again") from None
    except (RecursionError, ValueError) as error:
        raise DataError(f"{where} is no JSON that can be read: {error}") from None
    _refuse_half_characters(value, text, where)
    return value


def _refuse_half_characters(value: Any, text: str, where: str) -> None:
    """Raise where an escape stands for half a character, which no file can hold."""
    if "\\ud" not in text and "\\uD" not in text:
        return
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{where} holds half of a surrogate pair: its escapes are damaged, get it again") from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
