"""The one contract that every search engine fulfils."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from stepsearch.errors import SearchError
from stepsearch.search.utf8_text import utf8_text
from stepsearch.types import Passage


class SearchEngine(ABC):
    """Finds passages for a query. A subclass must write `search`; the rest has defaults.

    Example:
        class CustomSearchEngine(SearchEngine):
            def search(self, query: str, top_k: int = 3) -> list[str]:
                return my_index.lookup(query)[:top_k]

    Attributes:
        guards_itself: whether the engine limits its own time and tries again by itself. A GuardedSearch then asks it
            once and waits, so that nothing is tried again twice over.
    """

    guards_itself: bool = False

    @abstractmethod
    def search(self, query: str, top_k: int = 3) -> Sequence[str | Passage]:
        """Return at most `top_k` results, best first, as texts or passages."""

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        """Return the passages of each query, in the order of `queries`. This is what a rollout calls."""
        return [as_passages(self.search(query, top_k), top_k) for query in queries]

    def add_documents(self, documents: Sequence[str]) -> None:
        """Add documents to the index, where the engine has one.

        Raises:
            SearchError: the engine has no index of its own.
        """
        raise SearchError(f"{type(self).__name__} has no index to add documents to")

    def close(self) -> None:  # noqa: B027 - a hook that most engines do not need
        """Release what the engine holds. Safe to call twice."""


def as_passages(results: Sequence[str | Passage], top_k: int) -> list[Passage]:
    """Return `results` as passages, cut to `top_k`; a text becomes a passage whose id is its content hash.

    Halves of surrogate pairs become question marks.

    Raises:
        SearchError: the results are no sequence of texts or passages.
    """
    return [_as_passage(result) for result in _as_sequence(results)[:top_k]]


def _as_sequence(results: object) -> Sequence[object]:
    # One text is a sequence of texts to Python, and would pass as documents of one letter each.
    if isinstance(results, Sequence) and not isinstance(results, str):
        return results
    raise SearchError(f"search must return a list of texts or passages, not a {type(results).__name__}")


def _as_passage(result: object) -> Passage:
    if isinstance(result, Passage):
        return _writable(result)
    if isinstance(result, str):
        return Passage.from_text(utf8_text(result))
    raise SearchError(f"search must return texts or passages; one of its results is of type {type(result).__name__}")


def _writable(passage: Passage) -> Passage:
    name, title, text = utf8_text(passage.id), utf8_text(passage.title), utf8_text(passage.text)
    image = None if passage.image is None else utf8_text(passage.image)
    # The same object where nothing changed: nearly always.
    if name is passage.id and title is passage.title and text is passage.text and image is passage.image:
        return passage
    return Passage(name, text, title, passage.score, image)
