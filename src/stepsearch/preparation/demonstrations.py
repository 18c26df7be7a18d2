"""Scripted, imperfect episodes and reading drills, written from questions whose sub-questions are known.

They show a new policy the form of an episode and how to read, and no more skill than that: a script stops too early,
asks again for what it has, or asks without naming the entity, as often as it is told to. Getting better is left to
reinforcement learning.
"""

import random
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from stepsearch.config import WarmStartPhase
from stepsearch.errors import DataError
from stepsearch.matching.answers import normalize
from stepsearch.protocol import THINK, Answer, Search, closing, opening, render_turn
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Passage, Question, SubQuestion

# A thought repeats what is left to find, so that the next step follows from the thought before it alone.
_PLAN = " plan: {left}"
_AGAIN = " again: {left}"
_NEXT = " {got} is {answer}, then {left}"
_DONE = " {got} is {answer}, so answer"
_FACT = "{got} is {answer}"
_UNNAMED = "fact"  # What a hop asks for where the source does not name a relation.


@dataclass(frozen=True, slots=True)
class Written:
    """A segment that the policy is to write itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Observed:
    """A segment that the environment writes: the result of a search, and whether it was the last one allowed."""

    passages: tuple[Passage, ...]
    was_last: bool = False


@dataclass(frozen=True, slots=True)
class Demonstration:
    """An episode after the prompt of `question`; a reading drill has no question, and no prompt.

    `where` says which one it is, to people: a file and line, or a question.
    """

    question: str | None
    segments: tuple[Written | Observed, ...]
    where: str = field(default="a demonstration", compare=False)


_Segments = list[Written | Observed]
# Yields a query, is sent what was found; returns the segments, or None if the script did not work out.
_Script = Generator[str, tuple[Passage, ...], _Segments | None]


class DemonstrationWriter:
    """Writes scripted episodes against a search engine, and asks it each query once; a search that fails finds nothing.

    Args:
        search: finds the documents that the episodes show.
        top_k: documents per query.
        max_searches: searches an episode may have.
    """

    def __init__(self, search: GuardedSearch, *, top_k: int, max_searches: int) -> None:
        self._search = search
        self._top_k = top_k
        self._max_searches = max_searches
        self._found: dict[str, tuple[Passage, ...]] = {}

    def write(self, questions: Sequence[Question], phase: WarmStartPhase, rng: random.Random) -> list[Demonstration]:
        """Return one episode per question, in order, with the flaws that `phase` asks for.

        Left out are questions without sub-questions, and those for which no reference query finds an answer: an
        episode that states what it has not read would teach to make things up.
        """
        scripts = [_script(question, phase, self._max_searches, rng) for question in questions]
        written = zip(questions, self._perform(scripts), strict=True)
        return [
            Demonstration(question.question, tuple(segments), f"the demonstration of {question.question!r}")
            for question, segments in written
            if segments
        ]

    def _perform(self, scripts: Sequence[_Script]) -> list[_Segments | None]:
        """Run all scripts side by side, so that what they ask at the same time is one batch."""
        results: list[_Segments | None] = [None] * len(scripts)
        running = dict(enumerate(scripts))
        asked: dict[int, str] = {}
        while running:
            for index, script in list(running.items()):
                try:
                    asked[index] = script.send(self._found[asked[index]]) if index in asked else next(script)
                except StopIteration as end:
                    results[index] = end.value
                    del running[index]
            self._look_up(asked[index] for index in running)
        return results

    def _look_up(self, queries: Iterable[str]) -> None:
        new = [query for query in dict.fromkeys(queries) if query not in self._found]
        if new:
            results = self._search.search_batch(new, self._top_k)
            self._found.update((query, outcome.passages) for query, outcome in zip(new, results, strict=True))


class ReadingDrills:
    """Golden passages and what all questions together say of each.

    Raises:
        DataError: no question says which passage holds an answer.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self._passages: dict[str, Passage] = {}
        self._facts: dict[str, dict[str, str]] = {}
        for question in questions:
            golden = {passage.id: passage for passage in question.golden_passages}
            for hop in question.sub_questions:
                if hop.golden_passage_id in golden and hop.answer:
                    self._passages[hop.golden_passage_id] = golden[hop.golden_passage_id]
                    self._facts.setdefault(hop.golden_passage_id, {})[_label(hop)] = hop.answer
        if not self._facts:
            raise DataError(
                "the warm start's reading drills need sub-questions with an answer and the golden_id of one of the "
                "question's golden_documents, and no question has one: add them (docs/data_formats.md), leave the kind "
                "reading out of warm_start.phases, or train a model that needs no warm start (model.name)"
            )

    def write(self, count: int, rng: random.Random) -> list[Demonstration]:
        """Return `count` drills: one or two passages are shown, and their facts recited in random order."""
        ids = list(self._facts)
        return [self._drill(rng.sample(ids, min(rng.choice((1, 2)), len(ids))), rng) for _ in range(count)]

    def _drill(self, shown: Sequence[str], rng: random.Random) -> Demonstration:
        facts = [
            (f" {self._passages[index].title} " if len(shown) > 1 else " ") + _FACT.format(got=label, answer=answer)
            for index in shown
            for label, answer in self._facts[index].items()
        ]
        rng.shuffle(facts)
        recital = f"{opening(THINK)}{','.join(facts)}{closing(THINK)}"
        return Demonstration(None, (*(Observed((self._passages[index],)) for index in shown), Written(recital)))


def sample_thoughts() -> list[str]:
    """Return the templates of all thoughts, placeholders in braces."""
    return [_PLAN, _AGAIN, _NEXT, _DONE, f" {_FACT}", f" {_UNNAMED}"]


def _script(question: Question, phase: WarmStartPhase, max_searches: int, rng: random.Random) -> _Script:
    """Play the hops one after the other, and answer after the last, or too early."""
    hops = _answered_hops(question)
    if not hops:
        return None
    draft = _Draft(max_searches)
    thought = _PLAN.format(left=_listed(hops))
    for number, hop in enumerate(hops):
        if number == phase.max_hops:
            return [*draft.segments, Written(_search_turn(thought, _queries(hop)[0]))]
        again = _AGAIN.format(left=_listed(hops[number:]))
        found = yield from draft.ask(hop, (thought, again), _detours(hop, phase, rng))
        if not found:
            return None
        values = {"got": _label(hop), "answer": hop.answer}
        stops = rng.random() < _at(phase.stop_early, number) and hop.answer
        if stops or number + 1 == len(hops) or not draft.searches_left:
            return [*draft.segments, Written(render_turn(_DONE.format(**values), Answer(f" {hop.answer}")))]
        thought = (_NEXT if hop.answer else _PLAN).format(**values, left=_listed(hops[number + 1 :]))
    return None


def _answered_hops(question: Question) -> tuple[SubQuestion, ...]:
    """Return the hops; a last one without an answer of its own, as a user's data may have it, gets the question's."""
    hops = question.sub_questions
    if not hops or hops[-1].answer:
        return hops
    return (*hops[:-1], replace(hops[-1], answer=question.answers[0]))


class _Draft:
    """An episode while it is written."""

    def __init__(self, searches: int) -> None:
        self.segments: _Segments = []
        self.searches_left = searches

    def ask(
        self, hop: SubQuestion, thoughts: tuple[str, str], detours: Sequence[str]
    ) -> Generator[str, tuple[Passage, ...], bool]:
        """Search by way of `detours`, then as one should; return whether the answer was found.

        Before the first query stands the first of `thoughts`, before the others the second.
        """
        detours = detours[: self.searches_left - 1]
        for position, query in enumerate([*detours, *_queries(hop)][: self.searches_left]):
            passages = yield query
            self.searches_left -= 1
            turn = _search_turn(thoughts[min(position, 1)], query)
            self.segments += [Written(turn), Observed(passages, not self.searches_left)]
            if position >= len(detours) and _holds(passages, hop.answer):
                return True
        return False


def _detours(hop: SubQuestion, phase: WarmStartPhase, rng: random.Random) -> list[str]:
    """Return the superfluous queries before a hop's last one: a vague one, the same one once or twice more."""
    vague = [hop.relation] if rng.random() < phase.vague_query and hop.relation else []
    repeats = rng.choice((1, 2)) if rng.random() < phase.repeat_query else 0
    return vague + [_queries(hop)[0]] * repeats


def _search_turn(thought: str, query: str) -> str:
    return render_turn(thought, Search(f" {query}"))


def _queries(hop: SubQuestion) -> tuple[str, ...]:
    return hop.search_queries or (hop.question,)


def _listed(hops: Sequence[SubQuestion]) -> str:
    return ", ".join(map(_label, hops))


def _label(hop: SubQuestion) -> str:
    return hop.relation or _UNNAMED


def _at(chances: Sequence[float], number: int) -> float:
    return chances[number] if number < len(chances) else 0.0


def _holds(passages: Sequence[Passage], answer: str) -> bool:
    return any(normalize(answer) in normalize(f"{passage.title} {passage.text}") for passage in passages)
