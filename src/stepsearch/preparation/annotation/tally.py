"""What an annotation did, counted."""

from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts that add up over questions.

    Attributes:
        questions: seen.
        not_reached: left as they were, because the budget was spent.
        without_steps: left as they were, because they have no sub-questions and the model wrote none.
        rewriting_malformed: questions whose steps stay as the source has them: every reply was malformed.
        rewriting_failed: the same: the endpoint refused the request, or every try failed.
        queries_malformed: questions whose queries the rules wrote: every reply was malformed.
        queries_failed: the same: the endpoint refused the request, or every try failed.
        sub_questions: of the annotated questions.
        queries_proposed: by the model, different from each other.
        queries_leaking: of those, dropped because they name their answer.
        queries_rejected: of those, dropped by the engines' vote.
        queries_kept: of those, written.
        sub_questions_from_rules: whose queries the rules wrote, as the model's were missing or dropped.
        rule_queries_kept: of those, written.
        sub_questions_without_queries: none passed the vote, of the rules' neither; the search-key reward skips them.
        sub_questions_without_vote: no golden document is known, so that all their queries are kept.
    """

    questions: int = 0
    not_reached: int = 0
    without_steps: int = 0
    rewriting_malformed: int = 0
    rewriting_failed: int = 0
    queries_malformed: int = 0
    queries_failed: int = 0
    sub_questions: int = 0
    queries_proposed: int = 0
    queries_leaking: int = 0
    queries_rejected: int = 0
    queries_kept: int = 0
    sub_questions_from_rules: int = 0
    rule_queries_kept: int = 0
    sub_questions_without_queries: int = 0
    sub_questions_without_vote: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))
