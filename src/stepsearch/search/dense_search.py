"""Dense search over passages in memory, or over a knowledge base on disk: by what texts mean, not by their words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from stepsearch.config import DenseSearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import SearchError
from stepsearch.progress import unseen
from stepsearch.search.dense_encoding import Progress, index_knowledge_base
from stepsearch.search.dense_files import (
    PROBE,
    check_encoder,
    describe,
    open_index,
    read_manifest,
    settings_of_index,
    write_index,
)
from stepsearch.search.dense_index import DenseIndex, Hits
from stepsearch.search.encoder import Encoder
from stepsearch.search.encoders import load_encoder
from stepsearch.search.patient_http import Patience
from stepsearch.search.search_engine import SearchEngine
from stepsearch.search.utf8_text import utf8_text
from stepsearch.types import Passage


class DenseSearchEngine(SearchEngine):
    """Finds passages whose vectors have the largest dot products with the query's; of equal ones the earlier is first.

    A blank query finds nothing. Any other finds `top_k` passages, however little they fit, unless `min_score` says what
    is too little.

    Args:
        passages: in the order of their vectors.
        index: one vector for each.
        encoder: what made the vectors; closed with the engine.
        min_score: passages that score less are left out.
    """

    def __init__(
        self, passages: Sequence[Passage], index: DenseIndex, encoder: Encoder, min_score: float | None = None
    ) -> None:
        self._passages = passages
        self._added: list[Passage] = []
        self._index = index
        self._encoder = encoder
        self._min_score = min_score
        self.guards_itself = encoder.guards_itself

    @classmethod
    def from_passages(
        cls, passages: Iterable[Passage], encoder: Encoder, min_score: float | None = None
    ) -> DenseSearchEngine:
        """Return an engine over passages in memory; of several with one id the first counts.

        Raises:
            SearchError: there are none, or the encoder fails.
        """
        distinct: dict[str, Passage] = {}
        for passage in passages:
            distinct.setdefault(passage.id, passage)
        if not distinct:
            raise SearchError("there is nothing to index: there are no passages")
        kept = list(distinct.values())
        return cls(kept, DenseIndex(encoder.encode_passages(kept)), encoder, min_score)

    @classmethod
    def build(
        cls,
        folder: Path,
        settings: DenseSearchSettings,
        patience: Patience | None = None,
        progress: Progress = unseen,
        on_found: Progress = unseen,
    ) -> DenseSearchEngine:
        """Index the knowledge base in `folder`, in place of the index it may have, and open it.

        A build that was cut off goes on where it was.

        Args:
            folder: of the knowledge base.
            settings: which encoder, and what the index is called.
            patience: with an endpoint.
            progress: is called with how many more passages have vectors.
            on_found: is called with how many have them from a build that was cut off, if any have.

        Raises:
            DataError: the folder is no knowledge base, or an image of its passages cannot be read.
            SearchError: the encoder cannot be loaded or fails, or faiss is needed and not installed.
        """
        knowledge_base = KnowledgeBase.open(folder)
        encoder = load_encoder(settings, patience or Patience(), knowledge_base.folder)
        manifest = index_knowledge_base(knowledge_base, encoder, settings, progress, on_found)
        index, _ = open_index(knowledge_base, settings.index, manifest)
        return cls(knowledge_base, index, encoder, settings.min_score)

    @classmethod
    def open(cls, folder: Path, settings: DenseSearchSettings, patience: Patience | None = None) -> DenseSearchEngine:
        """Open a knowledge base with its index, both memory-mapped, and the encoder that made it.

        Raises:
            DataError: the folder is no knowledge base.
            SearchError: it has no index, a damaged one, or one that other passages, settings or encoders made; or the
                encoder cannot be loaded.
        """
        knowledge_base = KnowledgeBase.open(folder)
        manifest = read_manifest(knowledge_base, settings.index)
        settled = settings_of_index(manifest, settings, knowledge_base)
        index, probe = open_index(knowledge_base, settings.index, manifest)
        encoder = load_encoder(settled, patience or Patience(), knowledge_base.folder)
        made_in = knowledge_base.folder / settings.index
        check_encoder(encoder, probe, made_in, manifest.encoder, settings.encoder)
        return cls(knowledge_base, index, encoder, settings.min_score)

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        """Return at most `top_k` passages, best first, with their scores."""
        return self.search_batch([query], top_k)[0]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        """Return the passages of each query, in the order of `queries`; different ones are encoded together."""
        asked = list(dict.fromkeys(query for query in queries if query.strip()))
        if not asked or top_k < 1:
            return [[] for _ in queries]
        vectors = self._encoder.encode_queries([utf8_text(query) for query in asked])
        found = dict(zip(asked, map(self._found, self._index.best(vectors, top_k)), strict=True))
        return [list(found.get(query, ())) for query in queries]

    def add_documents(self, documents: Sequence[str]) -> None:
        """Add documents, in memory until `save` is called; one that is there already is not added again."""
        known = {passage.id for passages in (self._passages, self._added) for passage in passages}
        new = {passage.id: passage for passage in map(Passage.from_text, documents) if passage.id not in known}
        if new:
            self._index.add(self._encoder.encode_passages(list(new.values())))
            self._added += new.values()

    def save(self, folder: Path, settings: DenseSearchSettings) -> None:
        """Write passages and index as a knowledge base that `open` opens; nothing is encoded again.

        Args:
            folder: may be that of the knowledge base that was opened.
            settings: name encoder, endpoint and the index's folder.

        Raises:
            DataError: `folder` holds something else than a knowledge base.
            SearchError: two passages have one content, and a knowledge base holds it once.
        """
        knowledge_base = KnowledgeBase.create(folder, (*self._passages, *self._added))
        if len(knowledge_base) != len(self._index):
            raise SearchError("passages of equal title and text cannot be saved: build the engine without them")
        probe = self._encoder.encode_passages([PROBE])[0]
        manifest = describe(knowledge_base, settings, self._encoder, self._index.dimension)
        target = knowledge_base.folder / settings.index
        write_index(target, manifest, probe, self._index.blocks(), len(knowledge_base))

    def close(self) -> None:
        """Release the encoder."""
        self._encoder.close()

    def _found(self, hits: Hits) -> list[Passage]:
        least = self._min_score
        return [replace(self._passage(place), score=score) for place, score in hits if least is None or score >= least]

    def _passage(self, place: int) -> Passage:
        here = len(self._passages)
        return self._passages[place] if place < here else self._added[place - here]
