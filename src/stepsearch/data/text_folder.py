"""Passages out of a folder of texts, such as manuals or notes: every `.txt` and `.md` file, cut at its blank lines.

What blank lines part is a paragraph; a heading of markdown belongs to the one that follows it. A passage is as many
paragraphs as have `passage_words` words together. A longer paragraph is taken apart at ends of sentences and lines, and
a longer sentence between its words.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stepsearch.data.packed_files import decode_utf8, open_unpacked
from stepsearch.errors import DataError
from stepsearch.matching.unspaced import UNSPACED
from stepsearch.types import Passage

PASSAGE_WORDS = 100
"""As in Search-R1's passages of Wikipedia."""
_ENDINGS = (".txt", ".md")
_TITLE_WORDS = 12

_BLANK_LINES = re.compile(r"\n\s*\n")
_HEADING = re.compile(r"^#{1,6}[ \t]+(?P<title>\S(?:.*[^\s#])?)[ \t#]*$", re.MULTILINE)
# Lines of code may begin as headings do.
_CODE_OR_HEADING = re.compile(rf"^(?P<fence>```|~~~)[\s\S]*?^(?P=fence)|{_HEADING.pattern}", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=\n)|(?<=[.!?][ \t])|(?<=[。！？])")
_WORD = re.compile(rf"[{UNSPACED}]\s*|[^\s{UNSPACED}]+\s*")

logger = logging.getLogger(__name__)


def read_text_folder(folder: Path, passage_words: int = PASSAGE_WORDS) -> Iterator[Passage]:
    """Yield the passages of a folder's texts, file by file in the order of their names, with one file in memory.

    Their ids are `<folder>/<file>#<number>`, counted from 1; equal folders give equal passages.

    Raises:
        DataError: a file cannot be read, or there is no text.
    """
    texts, others = text_files(folder), _other_kinds(folder)
    if texts and others:
        logger.warning("%s: only %s files are read, and left alone are %s", folder, " and ".join(_ENDINGS), others)
    empty = True
    for path in texts:
        with open_unpacked(path) as file:
            text = "\n".join(decode_utf8(file.read(), str(path)).splitlines())
        name = f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}"
        title = _title(text) or Path(_unpacked_name(path)).stem
        for number, passage in enumerate(cut(text, passage_words), start=1):
            empty = False
            yield Passage(f"{name}#{number}", passage, title)
    if empty:
        raise DataError(f"{folder} holds no text: name a folder with {' or '.join(_ENDINGS)} files, or a corpus file")


def text_files(folder: Path) -> list[Path]:
    """Return the files that `read_text_folder` reads, in its order, packed with gzip or not, without hidden ones."""
    return [path for path in _files(folder) if _is_text(path)]


def cut(text: str, passage_words: int) -> Iterator[str]:
    """Yield a text's passages in order, each of so many pieces as have at most that many words."""
    held, count = "", 0
    for piece in _pieces(text, passage_words):
        words = len(_WORD.findall(piece))
        if held and count + words > passage_words:
            yield held.strip()
            held, count = "", 0
        held, count = held + piece, count + words
    if held:
        yield held.strip()


def _pieces(text: str, longest: int) -> Iterator[str]:
    """Yield what passages are made of, with the white space that follows it."""
    heading = ""
    # A heading is a paragraph of its own, blank lines around it or not.
    for paragraph in _BLANK_LINES.split(_CODE_OR_HEADING.sub(_set_apart, text)):
        lines = paragraph.strip("\n")
        words = len(_WORD.findall(heading))
        if words >= longest:
            yield from _short_enough(heading, longest)
            heading, words = "", 0
        if _HEADING.fullmatch(lines):
            heading += f"{lines}\n\n"
        elif lines.strip():
            first, *more = _parts(f"{lines}\n\n", longest - words)
            yield heading + first
            yield from more
            heading = ""
    if heading:
        yield from _short_enough(heading, longest)


def _set_apart(match: re.Match[str]) -> str:
    return f"\n{match[0]}\n" if match["title"] else match[0]


def _parts(paragraph: str, longest: int) -> list[str]:
    if len(_WORD.findall(paragraph)) <= longest:
        return [paragraph]
    sentences = _SENTENCE_END.split(paragraph)
    return [part for sentence in sentences for part in _short_enough(sentence, longest)]


def _short_enough(sentence: str, longest: int) -> list[str]:
    words = _WORD.findall(sentence)
    return words if len(words) > longest else [sentence]


def _title(text: str) -> str:
    """Return the first heading of markdown, else the first line if it is a short one, else nothing."""
    heading = next((match["title"] for match in _CODE_OR_HEADING.finditer(text) if match["title"]), None)
    if heading is not None:
        return heading
    line = text.lstrip().partition("\n")[0].strip()
    return line if re.search(r"\w", line) and len(_WORD.findall(line)) <= _TITLE_WORDS else ""


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and not _is_hidden(path.relative_to(folder))]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_text(path: Path) -> bool:
    return _unpacked_name(path).lower().endswith(_ENDINGS)


def _unpacked_name(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _other_kinds(folder: Path) -> str:
    """Return how many files of which endings are no texts; empty where all are."""
    kinds = Counter(path.suffix or path.name for path in _files(folder) if not _is_text(path))
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
