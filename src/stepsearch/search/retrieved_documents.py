"""Documents as other search servers write them, read as passages."""

import math
from collections.abc import Mapping

from stepsearch.errors import SearchError
from stepsearch.search.server_message import printable_line
from stepsearch.search.utf8_text import utf8_text
from stepsearch.types import Passage

# Where servers put a document's text, the first that is there counts.
_TEXT_KEYS = ("text", "content", "snippet")


def passage_from_document(document: object, score: object = None) -> Passage:
    """Return a document as a passage; one without an id gets a hash of its content.

    Args:
        document: a text, or a mapping with `contents` (Search-R1: the quoted title, a new line, the text) or with
            `text`, `content` or `snippet` and, where it has one, a `title`; its `id` may be missing, and its `image`
            is the path or URL of one.
        score: the engine's, where it gave one.

    Raises:
        SearchError: it holds no text.
    """
    number = _number(score)
    if isinstance(document, str):
        passage = Passage.from_text(utf8_text(document))
        return Passage(passage.id, passage.text, passage.title, number)
    if not isinstance(document, Mapping):
        raise SearchError(f"a document must be a text or an object, not a {type(document).__name__}")
    title, text = map(utf8_text, _content(document))
    identity = document.get("id")
    if not isinstance(identity, str | int) or identity == "":
        identity = Passage.from_text(text, title).id
    image = document.get("image")
    image = utf8_text(image) if isinstance(image, str) and image else None
    return Passage(utf8_text(str(identity)), text, title, number, image)


def split_contents(contents: str) -> tuple[str, str]:
    """Return title and text of Search-R1's `contents`; what does not begin with a quoted title has none."""
    first, newline, rest = contents.partition("\n")
    first = first.strip()
    if newline and len(first) > 1 and first[0] == first[-1] == '"':
        return first[1:-1], rest
    return "", contents


def _content(document: Mapping[str, object]) -> tuple[str, str]:
    title = document.get("title")
    title = title if isinstance(title, str) else ""
    contents = document.get("contents")
    if isinstance(contents, str):
        quoted, text = split_contents(contents)
        return title or quoted, text
    for key in _TEXT_KEYS:
        text = document.get(key)
        if isinstance(text, str):
            return title, text
    raise SearchError(
        f"a document has no contents, text or content; its keys are: {printable_line(', '.join(map(str, document)))}"
    )


def _number(score: object) -> float | None:
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    try:
        number = float(score)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
