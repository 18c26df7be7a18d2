"""What a search result looks like to the policy, in tokens and within a budget."""

import threading
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from stepsearch.errors import ConfigError
from stepsearch.protocol import (
    INFORMATION_PREFIX,
    INFORMATION_SUFFIX,
    NO_RESULTS,
    SEARCH_FAILED,
    neutralise,
    passage_heading,
)
from stepsearch.rollout.generation import EpisodeTokenizer
from stepsearch.search.guarded_search import SearchOutcome
from stepsearch.types import Passage

_CACHED_TEXTS = 16_384


class ObservationBuilder:
    """Turns search outcomes into token ids. Each text is tokenised once; documents are data and cannot act.

    Safe to share between threads.

    Args:
        tokenizer: encodes markup and outside text.
        max_observation_tokens: budget of one result, tags included.
        max_passage_tokens: budget of one document, heading included.

    Raises:
        ConfigError: the budget cannot hold the tags.
    """

    def __init__(self, tokenizer: EpisodeTokenizer, max_observation_tokens: int, max_passage_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._prefix = tokenizer.encode_markup(INFORMATION_PREFIX)
        self._suffix = tokenizer.encode_markup(INFORMATION_SUFFIX)
        self._separator, self._no_results, self._failed = tokenizer.encode_plain(["\n", NO_RESULTS, SEARCH_FAILED])
        self._room = max_observation_tokens - len(self._prefix) - len(self._suffix)
        self._max_passage = max_passage_tokens
        self._encoded: OrderedDict[str, array[int]] = OrderedDict()
        self._lock = threading.Lock()
        if self._room < 1:
            tags = len(self._prefix) + len(self._suffix)
            raise ConfigError(
                f"rollout.max_observation_tokens={max_observation_tokens} cannot hold the {tags} tokens of the tags "
                "around a search result: raise it"
            )

    def build(self, outcomes: Sequence[SearchOutcome]) -> list[list[int]]:
        """Return the observation of each outcome: tags, and between them what the budget holds of the documents."""
        with self._lock:
            encoded = self._encode([text for outcome in outcomes for pair in _parts(outcome.passages) for text in pair])
        return [self._prefix + self._inside(outcome, encoded) + self._suffix for outcome in outcomes]

    def _inside(self, outcome: SearchOutcome, encoded: "Mapping[str, array[int]]") -> list[int]:
        if outcome.failed or not outcome.passages:
            return (self._failed if outcome.failed else self._no_results)[: self._room]
        ids: list[int] = []
        for heading, body in _parts(outcome.passages):
            if ids:
                ids += self._separator
            ids += (encoded[heading] + encoded[body])[: self._max_passage]
            if len(ids) >= self._room:
                break
        return ids[: self._room]

    def _encode(self, texts: Sequence[str]) -> "Mapping[str, array[int]]":
        """Return the ids of every text, as many as one document may have; those not seen lately go in one batch."""
        known = {text: self._encoded[text] for text in texts if text in self._encoded}
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if new:
            encoded = self._tokenizer.encode_plain([neutralise(text) for text in new])
            known.update((text, array("q", ids[: self._max_passage])) for text, ids in zip(new, encoded, strict=True))
        for text in known:
            self._encoded[text] = known[text]
            self._encoded.move_to_end(text)
        while len(self._encoded) > _CACHED_TEXTS:
            self._encoded.popitem(last=False)
        return known


def _parts(passages: Sequence[Passage]) -> list[tuple[str, str]]:
    """Return heading and body of each passage; the blank between them belongs to the body, as tokenizers like it."""
    return [
        (passage_heading(rank, passage.title).rstrip(), " " + passage.text) for rank, passage in enumerate(passages, 1)
    ]
