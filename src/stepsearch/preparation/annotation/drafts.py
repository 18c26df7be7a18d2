"""A question between the model's replies and its finished annotation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stepsearch.chat_endpoint import Gap, GapKind
from stepsearch.data.search_keys import reference_queries
from stepsearch.preparation.annotation.leaks import gives_away
from stepsearch.preparation.annotation.tally import Tally
from stepsearch.types import Passage, Question, SubQuestion

SubQuestions = tuple[SubQuestion, ...]
Queries = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class GapNote:
    """Where the model failed, and how: for people who want to know why the rules had to fill in."""

    question_id: str
    part: str
    kind: GapKind
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The queries that a sub-question keeps, and who wrote them."""

    queries: tuple[str, ...]
    from_rules: bool = False


@dataclass(frozen=True, slots=True)
class Hop:
    """A sub-question with the queries that the model proposes for it.

    Attributes:
        sub_question: rewritten, with the source's queries still in it.
        golden: the documents that a query should find; empty where none is known.
        proposed: by the model.
        harmless: of those, the ones that do not name the answer.
    """

    sub_question: SubQuestion
    golden: tuple[Passage, ...]
    proposed: tuple[str, ...]
    harmless: tuple[str, ...]

    def rules(self) -> tuple[str, ...]:
        """Return the source's queries, which rules wrote unless they are a user's own; without any, the rules'."""
        return self.sub_question.search_queries or reference_queries(self.sub_question.question, ())

    def tally(self, choice: Choice) -> Tally:
        """Return the counts of this sub-question."""
        kept, of_rules = (0, len(choice.queries)) if choice.from_rules else (len(choice.queries), 0)
        return Tally(
            sub_questions=1,
            queries_proposed=len(self.proposed),
            queries_leaking=len(self.proposed) - len(self.harmless),
            queries_rejected=len(self.harmless) - kept,
            queries_kept=kept,
            sub_questions_from_rules=int(choice.from_rules),
            rule_queries_kept=of_rules,
            sub_questions_without_queries=int(not choice.queries),
            sub_questions_without_vote=int(not self.golden),
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """One question with what the model made of it.

    Attributes:
        question: as it came.
        sub_questions: rewritten, or as they came where the model failed.
        rewriting: the model's, or why there is none.
        queries: the model's for each sub-question, or why there are none.
    """

    question: Question
    sub_questions: SubQuestions
    rewriting: SubQuestions | Gap
    queries: Queries | Gap

    def hops(self) -> list[Hop]:
        """Return the sub-questions to find queries for; none where the question stays as it is."""
        if self._is_over_budget():
            return []
        proposed = ((),) * len(self.sub_questions) if isinstance(self.queries, Gap) else self.queries
        return [self._hop(sub, queries) for sub, queries in zip(self.sub_questions, proposed, strict=True)]

    def finished(self, choices: Sequence[Choice]) -> Question:
        """Return the question with the chosen queries; as it came where there is nothing to choose."""
        if not choices:
            return self.question
        subs = zip(self.sub_questions, choices, strict=True)
        return replace(
            self.question, sub_questions=tuple(replace(sub, search_queries=choice.queries) for sub, choice in subs)
        )

    def notes(self) -> list[GapNote]:
        """Return where the model failed, but for a spent budget."""
        parts = (("rewriting", self.rewriting), ("queries", self.queries))
        return [
            GapNote(self.question.id, name, part.kind, part.reason)
            for name, part in parts
            if isinstance(part, Gap) and part.kind is not GapKind.OVER_BUDGET
        ]

    def tally(self) -> Tally:
        """Return the counts of this question, without those of its sub-questions."""
        over_budget = self._is_over_budget()
        return Tally(
            questions=1,
            not_reached=int(over_budget),
            without_steps=int(not over_budget and not self.sub_questions),
            rewriting_malformed=int(_has_kind(self.rewriting, GapKind.MALFORMED)),
            rewriting_failed=int(_has_kind(self.rewriting, GapKind.FAILED)),
            queries_malformed=int(_has_kind(self.queries, GapKind.MALFORMED)),
            queries_failed=int(_has_kind(self.queries, GapKind.FAILED)),
        )

    def _is_over_budget(self) -> bool:
        return any(_has_kind(part, GapKind.OVER_BUDGET) for part in (self.rewriting, self.queries))

    def _hop(self, sub: SubQuestion, queries: tuple[str, ...]) -> Hop:
        golden = self.question.golden_passages
        if sub.golden_passage_id is not None:
            golden = tuple(passage for passage in golden if passage.id == sub.golden_passage_id)
        sources = (sub.question, self.question.question)
        harmless = tuple(query for query in queries if not gives_away(query, sub.answer, sources))
        return Hop(sub, golden, queries, harmless)


def _has_kind(part: object, kind: GapKind) -> bool:
    return isinstance(part, Gap) and part.kind is kind
