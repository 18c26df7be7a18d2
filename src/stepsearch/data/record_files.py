"""Files of JSON records: JSON lines or one JSON list, packed with gzip or not, streamed in and out."""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stepsearch.data.json_list import problem_of, read_list
from stepsearch.data.packed_files import decode_utf8, open_unpacked, packing
from stepsearch.data.records import Record, as_record
from stepsearch.data.whole_files import replacing
from stepsearch.errors import DataError


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
    with replacing(path) as beside, packing(path, beside) as file:
        for item in items:
            file.write(f"{json.dumps(item, ensure_ascii=False)}\n".encode())
            count += 1
    return count


def _lines(file: BinaryIO, path: Path) -> Iterator[Record]:
    for number, raw in enumerate(file, start=1):
        where = f"{path}, line {number}"
        # The end of the line is none of the record's: what is missing is missing on this line.
        line = decode_utf8(raw, where).rstrip("\r\n")
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
        raise DataError(
            f"{where} is not whole JSON ({problem_of(error)} at column {error.colno}): mend the record, which has to "
            "stand whole on its line or in one list with all others, or get the file again if it was cut off"
        ) from None
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
