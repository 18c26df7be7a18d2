"""A segment that an engine with kernels of its own is sampling: kept to the token that ends it, and no further."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from transformers import PreTrainedModel

from stepsearch.models.end_ids import all_end_ids
from stepsearch.models.stop_automaton import StopAutomaton
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.generation import SegmentEnd


@dataclass(frozen=True, slots=True)
class Stops:
    """What ends a segment besides its length.

    Attributes:
        tags: finds that a stop tag has closed.
        end_ids: end a sequence.
    """

    tags: StopAutomaton
    end_ids: Collection[int]

    @classmethod
    def of(cls, causal_lm: PreTrainedModel, tokenizer: ModelTokenizer) -> Self:
        """Return what ends a segment that this model samples."""
        vocabulary = int(causal_lm.config.get_text_config().vocab_size)
        tags = StopAutomaton(tokenizer.token_pieces(), STOP_TAGS, vocabulary)
        return cls(tags, frozenset(all_end_ids(causal_lm, tokenizer, vocabulary)))


@dataclass(slots=True)
class OpenSegment:
    """The tokens of a segment so far.

    Attributes:
        stops: what ends it.
        limit: so many tokens are the most.
        token_ids, logprobs: what was sampled.
        end: why it ended; None while it goes on.
    """

    stops: Stops
    limit: int
    token_ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    end: SegmentEnd | None = None
    _state: int = StopAutomaton.start

    def take(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Append what was sampled, up to the token that ends the segment; the rest is dropped."""
        for token, logprob in zip(token_ids, logprobs, strict=True):
            if self.end is not None:
                return
            self.token_ids.append(token)
            self.logprobs.append(logprob)
            self._state = int(self.stops.tags.advance(np.array([self._state]), np.array([token]))[0])
            if self._state == self.stops.tags.closed:
                self.end = SegmentEnd.STOP_TAG
            elif token in self.stops.end_ids:
                self.end = SegmentEnd.END_OF_SEQUENCE
            elif len(self.token_ids) >= self.limit:
                self.end = SegmentEnd.LENGTH
