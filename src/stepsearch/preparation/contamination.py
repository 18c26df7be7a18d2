"""What of an evaluation set stands in the training set."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stepsearch.matching.answers import normalize
from stepsearch.preparation.coverage import plain_text
from stepsearch.types import Question


@dataclass(frozen=True, slots=True)
class SharedQuestion:
    """A question of both sets, with the ids it has in them."""

    question: str
    evaluation_ids: list[str]
    training_ids: list[str]


@dataclass(frozen=True, slots=True)
class SharedDocument:
    """A golden document of both sets, with the ids of the questions that need it."""

    title: str
    evaluation_ids: list[str]
    training_ids: list[str]


@dataclass(frozen=True, slots=True)
class Contamination:
    """What two sets share.

    Attributes:
        evaluation_questions: size of the evaluation set.
        training_questions: size of the training set.
        evaluation_documents: different golden documents of the evaluation set.
        shared_questions: questions that are equal after answer normalisation (case, punctuation, articles, spaces).
        shared_documents: golden documents whose texts are equal but for case and white space.
    """

    evaluation_questions: int
    training_questions: int
    evaluation_documents: int
    shared_questions: list[SharedQuestion]
    shared_documents: list[SharedDocument]

    @property
    def repeated(self) -> int:
        """Evaluation questions that the training set asks."""
        return sum(len(shared.evaluation_ids) for shared in self.shared_questions)

    @property
    def touched(self) -> int:
        """Evaluation questions of which a golden document is one of a training question too."""
        return len({i for shared in self.shared_documents for i in shared.evaluation_ids})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        counts = {
            "evaluation_questions_in_training": self.repeated,
            "evaluation_questions_with_shared_documents": self.touched,
        }
        return counts | asdict(self)


def find_contamination(evaluation: Sequence[Question], training: Iterable[Question]) -> Contamination:
    """Return what the two sets share; the training set is read once."""
    questions: dict[str, SharedQuestion] = {}
    documents: dict[str, SharedDocument] = {}
    for question in evaluation:
        key = normalize(question.question)
        questions.setdefault(key, SharedQuestion(question.question, [], [])).evaluation_ids.append(question.id)
        for text, title in _golden(question).items():
            documents.setdefault(text, SharedDocument(title, [], [])).evaluation_ids.append(question.id)
    count = 0
    for question in training:
        count += 1
        if (asked := questions.get(normalize(question.question))) is not None:
            asked.training_ids.append(question.id)
        for text in _golden(question):
            if text in documents:
                documents[text].training_ids.append(question.id)
    return Contamination(
        evaluation_questions=len(evaluation),
        training_questions=count,
        evaluation_documents=len(documents),
        shared_questions=[shared for shared in questions.values() if shared.training_ids],
        shared_documents=[shared for shared in documents.values() if shared.training_ids],
    )


def _golden(question: Question) -> dict[str, str]:
    return {plain_text(passage.text): passage.title for passage in question.golden_passages}
