"""An episode of text as its method sees it: what it can ask for, and what is noted meanwhile.

A method is a generator function over an episode. It asks by `yield from episode.sample(...)` and
`yield from episode.search(...)`, reads like a program for one question, and returns the trajectory; the runner plays
many of them at once and answers what they ask in batches.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from stepsearch.evaluation.text_generation import (
    Piece,
    Sampled,
    SampleRequest,
    Stop,
    TextEnd,
    TextGenerator,
    Until,
)
from stepsearch.evaluation.transcript import Transcript
from stepsearch.protocol import NO_RESULTS, SEARCH_FAILED, format_error, neutralise_control
from stepsearch.rollout.seeding import episode_seed
from stepsearch.search.guarded_search import SearchOutcome
from stepsearch.types import FormatError, Passage, Question, StopReason, Trajectory


@dataclass(frozen=True, slots=True)
class TextBudget:
    """What an episode may use; the same for every method.

    Attributes:
        max_turn_tokens: tokens of one turn.
        max_observation_tokens: tokens of one search's documents.
        max_passage_tokens: tokens of one document among them.
        max_searches: executed searches.
        max_corrections: turns without a valid action that the StepSearch loop answers by a correction.
        top_k: documents per search.
    """

    max_turn_tokens: int
    max_observation_tokens: int
    max_passage_tokens: int
    max_searches: int
    max_corrections: int
    top_k: int

    @property
    def reasoning_tokens(self) -> int:
        """Tokens for a method that reasons in one go: what an episode of as many turns as it may have could sample."""
        return self.max_turn_tokens * (self.max_searches + 1)


@dataclass(frozen=True, slots=True)
class Query:
    """A search that a method asks for."""

    text: str


Move = SampleRequest | Query
Reply = Sampled | SearchOutcome
Play = Generator[Move, Reply, Trajectory]
WriteDocument = Callable[[int, str, str], str]
"""Writes a document from its rank (from 1), title and body."""

_REASONS = {
    TextEnd.STOP: StopReason.NO_VALID_ACTION,
    TextEnd.LENGTH: StopReason.NO_VALID_ACTION,
    TextEnd.END_OF_SEQUENCE: StopReason.END_OF_SEQUENCE,
    TextEnd.CONTEXT_FULL: StopReason.CONTEXT_FULL,
    TextEnd.NO_REPLY: StopReason.NO_REPLY,
}


class TextEpisode:
    """One question's episode.

    Args:
        question: what is asked.
        seed: decides the sampling noise.
        budget: what may be used.
        generator: whose tokens are counted and noted; it is not asked to sample here.

    Attributes:
        question: what is asked, as text in which no tag can act.
        reads_instructions: whether the model knows more than the bare prompt of the tag grammar.
    """

    def __init__(self, question: Question, seed: int, budget: TextBudget, generator: TextGenerator) -> None:
        self.question = neutralise_control(question.question)
        self.budget = budget
        self.reads_instructions = generator.reads_instructions
        self._generator = generator
        self._seed = seed
        self._calls = 0
        self._transcript = Transcript(question)

    @property
    def searches(self) -> int:
        """How many searches were executed."""
        return self._transcript.searches

    @property
    def searches_left(self) -> int:
        """How many searches may still be executed."""
        return self.budget.max_searches - self.searches

    @property
    def corrections(self) -> int:
        """How many corrections were given."""
        return self._transcript.corrections

    def sample(
        self,
        prompt: Sequence[Piece],
        said: Sequence[Piece | Sampled] = (),
        *,
        max_tokens: int | None = None,
        stops: Sequence[Stop] = (),
        until: Until | None = None,
        recorded: bool = True,
    ) -> Generator[Move, Reply, Sampled]:
        """Return what the model says.

        Args:
            prompt: what it is asked.
            said: what followed the prompt so far.
            max_tokens: default: those of a turn.
            stops: strings that end the text.
            until: tells where else it ends.
            recorded: False for a side call, whose text is not part of the episode.
        """
        self._calls += 1
        tokens = max_tokens or self.budget.max_turn_tokens
        if recorded:
            self._transcript.prompted(self._generator.encode_prompt(prompt))
        seed = episode_seed(self._seed, self._calls)
        sampled = yield SampleRequest(tuple(prompt), tuple(said), tokens, tuple(stops), until, seed)
        if not isinstance(sampled, Sampled):
            raise TypeError("asked for text, and was given a search result")
        if recorded:
            self._transcript.sampled(sampled)
        return sampled

    def search(self, query: str) -> Generator[Move, Reply, SearchOutcome]:
        """Return what a query finds, and note it."""
        folded = " ".join(query.split())
        outcome = yield Query(folded)
        if not isinstance(outcome, SearchOutcome):
            raise TypeError("asked for a search, and was given text")
        self._transcript.searched(folded, outcome)
        return outcome

    def observe(self, *pieces: Piece) -> tuple[Piece, ...]:
        """Note what the environment writes, and return it."""
        self._transcript.observed(pieces, self._generator.encode(pieces))
        return pieces

    def correct(self, *pieces: Piece) -> tuple[Piece, ...]:
        """Note a correction, and return it."""
        self._transcript.corrections += 1
        return self.observe(*pieces)

    def documents(self, outcome: SearchOutcome, write: WriteDocument, separator: str = "\n") -> str:
        """Return a search's documents within the budget, or what became of the search; no tag in it can act."""
        if outcome.failed or not outcome.passages:
            return SEARCH_FAILED if outcome.failed else NO_RESULTS
        texts = [self.document(rank, passage, write) for rank, passage in enumerate(outcome.passages, 1)]
        return self._generator.clip(separator.join(texts), self.budget.max_observation_tokens)

    def document(self, rank: int, passage: Passage, write: WriteDocument) -> str:
        """Return one document within its budget, its white space folded so that it cannot pose as another's line."""
        title, body = (" ".join(neutralise_control(text).split()) for text in (passage.title, passage.text))
        return self._generator.clip(write(rank, title, body), self.budget.max_passage_tokens)

    def finish(
        self, reason: StopReason, answer: str | None = None, grammar_turns: Sequence[str] | None = None
    ) -> Trajectory:
        """Return the trajectory.

        Args:
            reason: why the episode ended.
            answer: None for none.
            grammar_turns: what the model said turn by turn, where it was to keep to the tag grammar.
        """
        if grammar_turns is not None:
            error = format_error(grammar_turns, self.searches)
        else:
            error = FormatError.NO_ANSWER if answer is None else None
        return self._transcript.trajectory(reason, answer, error)

    def answered(self, answer: str | None, last: Sampled) -> Trajectory:
        """Return the trajectory of an episode that ends with its last text, whether that has an answer or not."""
        if answer:
            return self.finish(StopReason.ANSWERED, answer)
        return self.finish(reason_of(last))


def reason_of(last: Sampled) -> StopReason:
    """Return why an episode ends whose last text has no answer."""
    return _REASONS[last.end]
