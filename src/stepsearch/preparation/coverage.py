"""Which golden documents a corpus has: under the same id, with the same text, or as a near-duplicate."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from stepsearch.matching.tfidf import GoldenTerms
from stepsearch.progress import Advance, unseen
from stepsearch.search.search_engine import SearchEngine
from stepsearch.types import Passage, Question

# Of 609 golden paragraphs among 3,461 of three benchmarks, three have a neighbour above .95, another version of the
# same article; the next is at .868, about another county of the same name.
NEAR_DUPLICATE = 0.9
CANDIDATES = 10
_QUERY_WORDS = 64
_BATCH = 64


class Match(StrEnum):
    """How a corpus has a document."""

    ID = "id"
    TEXT = "text"
    NEAR = "near"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Located:
    """Where a corpus has a golden document.

    Attributes:
        match: the first way that applies, in the order of `Match`.
        passage_ids: the passages that are it, in whichever way; empty where it is missing.
        id_taken: a passage has its id and other content, so the id tells nothing.
    """

    match: Match
    passage_ids: frozenset[str]
    id_taken: bool = False


Locations = Mapping[Passage, Located]


def golden_documents(questions: Iterable[Question]) -> list[Passage]:
    """Return every golden document once, in the order of the questions."""
    return list(dict.fromkeys(passage for question in questions for passage in question.golden_passages))


def plain_text(text: str) -> str:
    """Return a text as it is compared: in lower case, every run of white space a single space."""
    return " ".join(text.casefold().split())


def locate(
    documents: Sequence[Passage],
    corpus: Sequence[Passage],
    engine: SearchEngine | None,
    threshold: float = NEAR_DUPLICATE,
    advance: Advance = unseen,
) -> dict[Passage, Located]:
    """Return where the corpus has each document.

    The corpus is read once, for ids and texts. What is left is searched for with its title and first words, and
    compared with the `CANDIDATES` best by the cosine of their TF-IDF, fitted on the two; so a document is never
    compared with the whole corpus.

    Args:
        documents: the golden documents.
        corpus: all passages.
        engine: searches the same corpus; without one near-duplicates are not looked for.
        threshold: cosine from which a passage is a near-duplicate.
        advance: called with shares of the whole work, 1 in sum.
    """
    same_id, same_text, taken = _read_through(documents, corpus, threshold, advance)
    left = [document for document in documents if not same_id.get(document) and not same_text.get(document)]
    near = {} if engine is None else _near_duplicates(left, engine, threshold, advance)
    located: dict[Passage, Located] = {}
    for document in documents:
        ways = {Match.ID: same_id, Match.TEXT: same_text, Match.NEAR: near}
        found = {match: ids for match, way in ways.items() if (ids := way.get(document))}
        match = next(iter(found), Match.MISSING)
        located[document] = Located(match, frozenset().union(*found.values()), document in taken)
    return located


_Found = dict[Passage, set[str]]


def _read_through(
    documents: Sequence[Passage], corpus: Sequence[Passage], threshold: float, advance: Advance
) -> tuple[_Found, _Found, set[Passage]]:
    """Return the passages with each document's id and its content, those with its text, and whose id is taken."""
    by_id: dict[str, list[Passage]] = {}
    by_text: dict[str, list[Passage]] = {}
    for document in documents:
        by_id.setdefault(document.id, []).append(document)
        by_text.setdefault(plain_text(document.text), []).append(document)
    same_id: _Found = {}
    same_text: _Found = {}
    taken: set[Passage] = set()
    for number, passage in enumerate(corpus, start=1):
        text = plain_text(passage.text)
        for document in by_text.get(text, ()):
            same_text.setdefault(document, set()).add(passage.id)
        for document in by_id.get(passage.id, ()):
            # Two corpora may both count from 0: an id alone proves nothing.
            if plain_text(document.text) == text or _cosine(document, passage) >= threshold:
                same_id.setdefault(document, set()).add(passage.id)
            else:
                taken.add(document)
        if number % 10_000 == 0:
            advance(0.5 * 10_000 / len(corpus), f"{number:,} passages")
    return same_id, same_text, taken


def _near_duplicates(documents: Sequence[Passage], engine: SearchEngine, threshold: float, advance: Advance) -> _Found:
    near: _Found = {}
    for first in range(0, len(documents), _BATCH):
        batch = documents[first : first + _BATCH]
        results = engine.search_batch([_query(document) for document in batch], CANDIDATES)
        for document, candidates in zip(batch, results, strict=True):
            near[document] = {c.id for c in candidates if _cosine(document, c) >= threshold}
        advance(0.5 * len(batch) / len(documents), f"{first + len(batch):,} documents searched for")
    return near


def _query(document: Passage) -> str:
    return " ".join(f"{document.title} {document.text}".split()[:_QUERY_WORDS])


def _cosine(document: Passage, candidate: Passage) -> float:
    return GoldenTerms([document.text]).cosines(candidate.text)[0]
