"""An episode's text as what it consists of: thoughts, searches, documents, the answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stepsearch.protocol import (
    CORRECTION,
    INFORMATION,
    NO_SEARCH_LEFT,
    SEARCH,
    blocks,
    closing,
    neutralise,
    opening,
)
from stepsearch.types import Passage, SearchStep

DOCUMENTS, ENVIRONMENT, CLAIMED, TEXT = "documents", "environment", "claimed", "text"

# A search is where sampling stops, so that what follows its closing tag is the environment's.
_WRITTEN = re.compile(
    rf"(?P<found>(?<={re.escape(closing(SEARCH))})\s*{re.escape(opening(INFORMATION))}.*?"
    rf"(?:{re.escape(closing(INFORMATION))}|\Z))"
    rf"|{re.escape(CORRECTION.strip())}|{re.escape(NO_SEARCH_LEFT.strip())}",
    re.DOTALL,
)
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Block:
    """One part of an episode.

    Attributes:
        kind: `think`, `search` or `answer`; `documents` are found ones, `claimed` a block of documents that the policy
            wrote itself, `environment` what else the environment wrote, `text` what the policy wrote outside of tags.
        text: its content; of `documents` what the policy was shown.
        step: the search that it belongs to, from 0; None for other kinds, and for a search that was not executed.
    """

    kind: str
    text: str
    step: int | None = None


def episode_blocks(text: str, steps: Sequence[SearchStep]) -> list[Block]:
    """Return the parts of an episode's text in order, searches and documents with the step that they are.

    Steps that the text does not show, such as those of a method that searches before it asks the model, are added.
    """
    parts = [part for part in _split(text) if part.kind == DOCUMENTS or part.text]
    ordered: list[Block] = []
    step = -1
    for part in parts:
        if part.kind == SEARCH and step + 1 < len(steps) and _folded(part.text) == _folded(steps[step + 1].query):
            step += 1
            ordered.append(Block(SEARCH, part.text, step))
        elif part.kind == DOCUMENTS:
            ordered.append(Block(DOCUMENTS, part.text, max(step, 0) if steps else None))
        else:
            ordered.append(part)
    unseen = [Block(SEARCH, steps[i].query, i) for i in range(step + 1, len(steps))]
    return unseen + ordered if step < 0 else ordered + unseen


def _split(text: str) -> list[Block]:
    found: list[Block] = []
    end = 0
    for match in _WRITTEN.finditer(text):
        found += _sampled(text[end : match.start()])
        found.append(Block(DOCUMENTS if match["found"] else ENVIRONMENT, match[0].strip()))
        end = match.end()
    return found + _sampled(text[end:])


def _sampled(text: str) -> list[Block]:
    names = {"": TEXT, INFORMATION: CLAIMED}
    return [Block(names.get(name, name), content) for name, content in blocks(text)]


def _folded(text: str) -> str:
    return _SPACES.sub(" ", text).strip()


def characters_read(shown: str, rank: int, passage: Passage) -> int | None:
    """Return how many characters of a passage's body the policy was shown; None where it was all of them.

    Budgets cut documents. None as well where a tokenizer changes texts so much that it cannot be told.

    Args:
        shown: the text between the tags.
        rank: the passage's place in the result, from 1.
        passage: as it was found.
    """
    body = neutralise(passage.text)
    if body in shown:
        return None
    if f"Doc {rank}" not in shown:
        return 0
    low, high = 0, len(body)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if body[:middle] in shown else (low, middle - 1)
    return low or None
