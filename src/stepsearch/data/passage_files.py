"""Passages out of any file or folder that holds some: a corpus, questions with their paragraphs, or plain text."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from stepsearch.data.corpus import CONTENT_KEYS, read_corpus
from stepsearch.data.packed_files import decode_utf8, open_unpacked
from stepsearch.data.question_files import entries_of_records
from stepsearch.data.record_files import read_records
from stepsearch.data.text_folder import PASSAGE_WORDS, read_text_folder
from stepsearch.errors import DataError
from stepsearch.types import Passage

_TEXT_ENDINGS = (".txt", ".txt.gz")
_JSON_ENDINGS = ("", ".jsonl", ".json", ".ndjson")
_JSON_START = re.compile(rb"(\xef\xbb\xbf)?\s*(\[\s*)?\{")


def read_passages(path: Path, passage_words: int = PASSAGE_WORDS) -> Iterator[Passage]:
    """Yield the passages of a file or a folder, one by one.

    A name that ends in `.txt` or `.txt.gz` is plain text, one passage a line; blank lines count for nothing. Other
    files hold JSON: a corpus in Search-R1's format, or questions whose paragraphs are taken, as MuSiQue, HotpotQA and
    2WikiMultiHopQA publish them. All may be packed with gzip. Of a folder the texts in it are read, in passages of at
    most `passage_words` words.

    Raises:
        DataError: the file is missing, damaged, empty, or of another kind.
    """
    if path.is_dir():
        return read_text_folder(path, passage_words)
    if path.name.lower().endswith(_TEXT_ENDINGS):
        return _lines(path)
    _refuse_other_kinds(path)
    first = next(read_records(path))
    has_questions = "question" in first.values and CONTENT_KEYS.isdisjoint(first.values)
    return _paragraphs(path) if has_questions else read_corpus(path)


def _refuse_other_kinds(path: Path) -> None:
    """Refuse a file that neither is called JSON nor begins as records do."""
    with open_unpacked(path) as file:
        start = file.read(64)
    if Path(path.name.removesuffix(".gz")).suffix.lower() not in _JSON_ENDINGS and not _JSON_START.match(start):
        raise DataError(
            f"{path} is of no kind that passages are read from: name a .jsonl or .json file of records, a .txt file "
            "with one passage a line, each perhaps packed (.gz), or a folder of .txt and .md files"
        )


def _lines(path: Path) -> Iterator[Passage]:
    empty = True
    with open_unpacked(path) as file:
        for number, raw in enumerate(file, start=1):
            text = decode_utf8(raw, f"{path}, line {number}").strip()
            if text:
                empty = False
                yield Passage.from_text(text)
    if empty:
        raise DataError(f"{path} is empty: it holds no line with a text")


def _paragraphs(path: Path) -> Iterator[Passage]:
    entries = entries_of_records(read_records(path))
    passages = chain.from_iterable(entry.passages for entry in entries if entry is not None)
    first = next(passages, None)
    if first is None:
        raise DataError(f"{path} holds no passages: its questions come without paragraphs")
    yield first
    yield from passages
