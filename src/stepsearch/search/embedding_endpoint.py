"""Vectors from an OpenAI-compatible `/v1/embeddings`, asked in batches and again when it fails."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepsearch.chat_endpoint.trouble import Reaction, UnreadableReplyError, explain, pause_seconds, reaction_to
from stepsearch.chat_endpoint.wire import open_client
from stepsearch.config import DenseSearchSettings
from stepsearch.errors import EndpointError, SearchError, SearchUnavailableError
from stepsearch.search.encoder import Vectors, in_batches, passage_text
from stepsearch.search.patient_http import Patience
from stepsearch.types import Passage

logger = logging.getLogger(__name__)


class EndpointEncoder:
    """A model behind an endpoint.

    Args:
        url: with its `/v1`.
        model: as the endpoint calls it.
        facts: normalize, query_prefix and passage_prefix, none of them None.
        batch_size: texts in a request.
        patience: how long to try; circuits are not broken.
        sleep: waits so many seconds.

    Raises:
        SearchError: the `openai` client is not installed, there is no key for OpenAI's own endpoint, or the address is
            none.
    """

    guards_itself = True

    def __init__(
        self,
        url: str,
        model: str,
        facts: Mapping[str, Any],
        batch_size: int = 64,
        patience: Patience | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.facts = facts
        self._url = url.rstrip("/")
        self._model = model
        self._batch_size = batch_size
        self._patience = patience or Patience()
        self._sleep = sleep
        try:
            self._client = open_client(self._url, None, self._patience.timeout_seconds)
        except EndpointError as error:
            raise SearchError(f"search.dense.url: {error}") from None

    @classmethod
    def load(cls, name: str, settings: DenseSearchSettings, patience: Patience) -> EndpointEncoder:
        """Return the encoder that settings with a `url` describe.

        Raises:
            SearchError: a setting is made that has no effect there.
        """
        for key in ("pooling", "max_tokens"):
            if getattr(settings, key) is not None:
                raise SearchError(f"search.dense.{key} is the endpoint's own business: leave it out")
        facts = {
            "query_prefix": settings.query_prefix or "",
            "passage_prefix": settings.passage_prefix or "",
            "normalize": settings.normalize is not False,
        }
        return cls(settings.url or "", name, facts, settings.batch_size, patience)

    def encode_queries(self, queries: Sequence[str]) -> Vectors:
        """Return a vector per query: [queries, dimensions].

        Raises:
            SearchError: the endpoint has no vectors for them, or (SearchUnavailableError) gives no answer at all.
        """
        return self._encode([self.facts["query_prefix"] + query for query in queries])

    def encode_passages(self, passages: Sequence[Passage]) -> Vectors:
        """Return a vector per passage: [passages, dimensions].

        Raises:
            SearchError: as `encode_queries`.
        """
        return self._encode([self.facts["passage_prefix"] + passage_text(passage) for passage in passages])

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _encode(self, texts: Sequence[str]) -> Vectors:
        vectors = in_batches(texts, len, self._batch_size, self._ask)
        if not self.facts["normalize"]:
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def _ask(self, texts: list[str]) -> Vectors:
        import openai

        for attempt in range(self._patience.retries + 1):
            try:
                # As numbers: not every server knows the client's usual base64.
                reply = self._client.embeddings.create(input=texts, model=self._model, encoding_format="float")
                return _read(reply, len(texts))
            except (openai.OpenAIError, UnreadableReplyError, ValueError) as error:
                self._sleep(self._pause(error, attempt))
        raise AssertionError("the last try returns or raises")

    def _pause(self, error: Exception, attempt: int) -> float:
        """Return how long to wait before the next try.

        Raises:
            SearchError: there shall be none.
        """
        reaction = reaction_to(error)
        if reaction is Reaction.STOP:
            raise SearchUnavailableError(f"{self._url} refuses model {self._model}: {explain(error)}") from None
        if reaction is Reaction.GIVE_UP:
            raise SearchError(f"{self._url} refuses the request: {explain(error)}") from None
        pause = pause_seconds(attempt, self._patience.backoff_seconds, error)
        if attempt == self._patience.retries or pause > max(self._patience.timeout_seconds, 1):
            tries = "1 try" if attempt == 0 else f"{attempt + 1} tries"
            raise SearchUnavailableError(f"{self._url} failed after {tries}: {explain(error)}") from None
        logger.info("%s: try %d failed: %s", self._url, attempt + 1, explain(error))
        return pause


def _read(reply: Any, count: int) -> Vectors:
    """Return the vectors of a reply in the order of the texts.

    Raises:
        UnreadableReplyError: they are not all there.
    """
    try:
        entries = sorted(reply.data, key=lambda entry: entry.index)
        vectors = np.array([entry.embedding for entry in entries], dtype=np.float32)
    except (AttributeError, TypeError, ValueError):
        raise UnreadableReplyError(f"the reply holds no vectors: {str(reply)[:100]!r}") from None
    whole = vectors.ndim == 2 and [entry.index for entry in entries] == list(range(count))
    if not whole or not math.isfinite(float(vectors.sum())):
        raise UnreadableReplyError(f"the reply does not hold {count} vectors of numbers")
    return vectors
