"""Texts sampled by the local policy through its engine, token ids and log-probabilities noted as they are sampled.

An engine stops at the tags of the grammar alone. Other ends are found by sampling a few tokens at a time and looking:
the noise of a token depends on its position and nothing else, so a text is the same in whatever parts it is sampled.
"""

from bisect import bisect_left
from collections.abc import Sequence

from stepsearch.evaluation.text_generation import Piece, Sampled, SampleRequest, TextEnd, end_of
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.budget import MINIMAL_TURN_TOKENS
from stepsearch.rollout.generation import GenerationEngine, Sampling, Segment, SegmentEnd

PART_TOKENS = 16
"""So many tokens are sampled before the text is searched for an end that the engine does not know."""


class LocalGenerator:
    """Implements `TextGenerator` over a generation engine.

    Args:
        engine: samples tokens.
        tokenizer: the policy's.
        max_length: tokens that context and sampled text may have together.
        temperature: 0 is greedy.
        top_p: nucleus mass, 1 is off.
        top_k: 0 is off.
    """

    def __init__(
        self,
        engine: GenerationEngine,
        tokenizer: ModelTokenizer,
        max_length: int,
        temperature: float,
        top_p: float = 1.0,
        top_k: int = 0,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._sampling = (temperature, top_p, top_k)

    @property
    def reads_instructions(self) -> bool:
        """Whether the model knows more than the bare prompt of the tag grammar."""
        return self._tokenizer.prompt_style != "question"

    def encode_prompt(self, prompt: Sequence[Piece]) -> list[int]:
        """Return a prompt's token ids: a user's message where the model has a chat template."""
        return self._tokenizer.encode_message([(piece.text, piece.outside) for piece in prompt])

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the token ids of text that follows a prompt."""
        return self._tokenizer.encode_parts([(piece.text, piece.outside) for piece in pieces])

    def clip(self, text: str, max_tokens: int) -> str:
        """Return as much of the beginning of a text as has so many tokens."""
        (ids,) = self._tokenizer.encode_plain([text])
        return text if len(ids) <= max_tokens else self._tokenizer.decode(ids[:max_tokens]).rstrip("\ufffd ")

    def generate(self, requests: Sequence[SampleRequest]) -> list[Sampled]:
        """Return what was sampled for each request, in their order.

        Raises:
            ModelError: the model's scores are not finite.
        """
        drafts = [_Draft(request, self._context(request), self._tokenizer, self._max_length) for request in requests]
        try:
            for index, draft in enumerate(drafts):
                self._continue(index, draft)
            while self._engine.active:
                for segment in self._engine.step():
                    draft = drafts[segment.request_id]
                    draft.take(segment)
                    self._continue(segment.request_id, draft)
        finally:
            for index in range(len(drafts)):
                self._engine.release(index)
        return [draft.sampled() for draft in drafts]

    def _continue(self, index: int, draft: "_Draft") -> None:
        """Sample the draft's next part, or let its request go."""
        if draft.end is not None:
            self._engine.release(index)
        else:
            sampling = Sampling(draft.next_tokens, draft.request.seed, *self._sampling)
            self._engine.submit(index, draft.context + draft.token_ids, sampling)

    def _context(self, request: SampleRequest) -> list[int]:
        """Return the ids of prompt and what was said; pieces in a row are encoded as one text, turns not again."""
        ids, pieces = self.encode_prompt(request.prompt), list[Piece]()
        for part in request.said:
            if isinstance(part, Piece):
                pieces.append(part)
            else:
                ids += [*self.encode(pieces), *part.token_ids]
                pieces = []
        return ids + self.encode(pieces)


class _Draft:
    """A text that is being sampled.

    Attributes:
        request: what is wanted.
        context: token ids before it.
        token_ids: sampled so far.
        end: why it ended; None while it goes on.
    """

    def __init__(self, request: SampleRequest, context: list[int], tokenizer: ModelTokenizer, max_length: int) -> None:
        self.request = request
        self.context = context
        self.token_ids: list[int] = []
        self._logprobs: list[float] = []
        self._tokenizer = tokenizer
        self._limit = min(request.max_tokens, max_length - len(context))
        self._text = ""
        fits = self._limit >= min(MINIMAL_TURN_TOKENS, request.max_tokens)
        self.end: TextEnd | None = None if fits else TextEnd.CONTEXT_FULL

    @property
    def next_tokens(self) -> int:
        """How many tokens the next part may have; all that are left where the engine itself knows where to stop."""
        left = self._limit - len(self.token_ids)
        engine_stops = not self.request.until and all(stop.text in STOP_TAGS for stop in self.request.stops)
        return left if engine_stops else min(left, PART_TOKENS)

    def take(self, segment: Segment) -> None:
        """Append a part, and end the text where its request ends it."""
        ended = segment.end is SegmentEnd.END_OF_SEQUENCE
        # The end-of-sequence token is left out: a method may go on behind the text.
        own = len(segment.token_ids) - ended
        self.token_ids += segment.token_ids[:own]
        self._logprobs += segment.logprobs[:own]
        self._text = self._tokenizer.decode(self.token_ids)
        end = end_of(self._text, self.request)
        if end is not None:
            self._cut(end)
        elif ended:
            self.end = TextEnd.END_OF_SEQUENCE
        elif len(self.token_ids) >= self._limit:
            full = self._limit < self.request.max_tokens
            self.end = TextEnd.CONTEXT_FULL if full else TextEnd.LENGTH

    def _cut(self, length: int) -> None:
        """Keep the first `length` characters, and the tokens that spell them; the last may carry more."""
        kept = bisect_left(
            range(len(self.token_ids)), length, key=lambda count: len(self._tokenizer.decode(self.token_ids[:count]))
        )
        del self.token_ids[kept:], self._logprobs[kept:]
        self._text, self.end = self._text[:length], TextEnd.STOP

    def sampled(self) -> Sampled:
        """Return the finished text."""
        return Sampled(self._text, self.end or TextEnd.LENGTH, tuple(self.token_ids), tuple(self._logprobs))
