"""Search-R1's corpus format, read and written passage by passage: JSON lines `{"id": …, "contents": …}`.

The contents are the title in double quotes, a line break, and the text. A passage that shows an image has its path or
URL in `image`. Files packed with gzip are read as they are,
and written where the name ends in `.gz`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from stepsearch.data.record_files import read_records, write_json_lines
from stepsearch.data.records import Record
from stepsearch.data.seen_hashes import SeenHashes
from stepsearch.types import Passage

CONTENT_KEYS = frozenset(("contents", "text"))
"""A passage has one of them."""
_KEYS_NAMED = 5


def read_corpus(path: Path) -> Iterator[Passage]:
    """Yield the passages of a corpus file with their own ids.

    A record may have `text` and maybe `title` instead of `contents`, and no `id`, which is then the hash of its
    content. Such an id may occur again, as where two corpora are joined: it is the same passage.

    Raises:
        DataError: the file is missing, damaged or empty, a record is malformed, or another id occurs twice.
    """
    seen = SeenHashes()
    for record in read_records(path):
        passage = passage_from_record(record)
        if passage.id != passage.content_id and not seen.add(passage.id.encode()):
            raise record.error(f"passage id {passage.id} occurs a second time: give every passage its own")
        yield passage


def write_corpus(path: Path, passages: Iterable[Passage]) -> int:
    """Write passages in that format, in one piece; returns how many.

    Raises:
        DataError: the file cannot be written.
    """
    return write_json_lines(path, map(passage_to_record, passages))


def passage_to_record(passage: Passage) -> dict[str, Any]:
    """Return a passage as a line of a corpus; line breaks in its title become spaces, for a title is one line there."""
    title = " ".join(passage.title.splitlines())
    record = {"id": passage.id, "contents": f'"{title}"\n{passage.text}'}
    return record if passage.image is None else record | {"image": passage.image}


def passage_from_record(record: Record) -> Passage:
    """Return a corpus record as a passage; without `id` (or `_id`) it is named after its content.

    The first line of `contents` is the title, in quotes or not.
    Contents of a single line are text without a title.

    Raises:
        DataError: a key is missing or of the wrong type.
    """
    image = record.text("image", default="") or None
    title, text = _content(record)
    # As in BEIR's corpora.
    id_key = "_id" if "_id" in record.values and record.values.get("id") is None else "id"
    passage = Passage(record.identifier(id_key, default=""), text, title, image=image)
    return passage if passage.id else replace(passage, id=passage.content_id)


def _content(record: Record) -> tuple[str, str]:
    """Return title and text."""
    if "contents" in record.values:
        contents = record.text("contents")
        title, line_break, text = contents.partition("\n")
        return (_unquoted(title), text) if line_break else ("", contents)
    if "text" in record.values:
        return record.text("title", default=""), record.text("text")
    keys = ", ".join(islice(record.values, _KEYS_NAMED)) + (", …" if len(record.values) > _KEYS_NAMED else "")
    raise record.error(
        'a passage is {"id", "contents"} or {"id", "title", "text"}, one record a line or in a list; this record has '
        + (f"the keys {keys}" if keys else "no key")
    )


def _unquoted(title: str) -> str:
    title = title.strip()
    return title[1:-1] if len(title) > 1 and title[0] == title[-1] == '"' else title
