"""The two semantics of the reward: the paper's, and the released code's. Configuration, not two programs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from stepsearch.matching.answers import normalize
from stepsearch.matching.tfidf import GoldenTerms
from stepsearch.rewards.answer import answer_reward, official_answer_reward
from stepsearch.rewards.redundancy import official_redundancy_penalty, redundancy_penalty
from stepsearch.rewards.search_keys import official_search_key_reward, search_key_reward
from stepsearch.types import FormatError, Passage


@dataclass(frozen=True, slots=True)
class Recipe:
    """What differs between the two.

    Attributes:
        wrong_formats: the format errors that count.
        wrong_format_outcome: the outcome reward of an episode with one of them.
        wrong_format_keeps_steps: whether such an episode keeps its step rewards.
        answer: (answer, gold answers) -> reward.
        search_key: (queries, reference queries of each sub-question) -> reward.
        read_documents: a step's documents as this recipe reads them.
        read_golden: a golden document's text as this recipe reads it.
        redundancy: (documents, earlier documents, golden documents, threshold) -> penalty.
    """

    wrong_formats: frozenset[FormatError]
    wrong_format_outcome: float
    wrong_format_keeps_steps: bool
    answer: Callable[[str | None, Sequence[str]], float]
    search_key: Callable[[Sequence[str], Sequence[Sequence[str]]], float]
    read_documents: Callable[[Sequence[Passage]], list[Passage]]
    read_golden: Callable[[str], str]
    redundancy: Callable[[Sequence[Passage], Sequence[Passage], GoldenTerms, float], float]


def label_documents(documents: Sequence[Passage]) -> list[Passage]:
    """Return a step's documents as the released parser reads them.

    It leaves the next document's label on every one but the last. That text is the document's identity, and
    SQuAD-normalised it is what the TF-IDF sees.
    """
    bodies = [f"{passage.text}\nDoc {rank}" for rank, passage in enumerate(documents[:-1], start=2)]
    bodies += [passage.text for passage in documents[-1:]]
    return [Passage(id=body.strip(), text=normalize(body)) for body in bodies]


RECIPES: Mapping[str, Recipe] = {
    "paper": Recipe(
        wrong_formats=frozenset(FormatError),
        wrong_format_outcome=0.0,
        wrong_format_keeps_steps=True,
        answer=answer_reward,
        search_key=search_key_reward,
        read_documents=list,
        read_golden=str,
        redundancy=redundancy_penalty,
    ),
    "official": Recipe(
        wrong_formats=frozenset({FormatError.NO_ANSWER, FormatError.TEXT_AFTER_ANSWER}),
        wrong_format_outcome=-1.0,
        wrong_format_keeps_steps=False,
        answer=official_answer_reward,
        search_key=official_search_key_reward,
        read_documents=label_documents,
        read_golden=normalize,
        redundancy=lambda documents, earlier, golden, threshold: official_redundancy_penalty(documents, earlier),
    ),
}
