"""The audit of a corpus: does it have what the questions need, and can a search find it?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stepsearch.preparation.coverage import NEAR_DUPLICATE, Located, Match, golden_documents, locate
from stepsearch.preparation.retrieval_ceiling import DEPTHS, WAYS, Recall, recall_of
from stepsearch.progress import Advance, unseen
from stepsearch.search.search_engine import SearchEngine
from stepsearch.types import Passage, Question

_LISTED_QUESTIONS = 5


@dataclass(frozen=True, slots=True)
class GroupAudit:
    """The figures of some questions.

    Attributes:
        dataset: their dataset.
        hops: their number of hops; None for all questions of the dataset, or where the source does not say.
        questions: how many.
        with_golden: those that have golden documents. All that follows is over them, and None or 0 without any.
        all_found: of which the corpus has every golden document.
        some_found: of which it has some and lacks some.
        none_found: of which it has none.
        documents: golden documents by how the corpus has them; one that two questions need counts twice.
        recall: by way of asking and depth k, the mean share of golden documents among the first k results of a query.
        queries: by way of asking, the mean number of queries for a question.
        asked: by way of asking, the questions that have such queries: what the means are over.
    """

    dataset: str
    hops: int | None
    questions: int
    with_golden: int
    all_found: int
    some_found: int
    none_found: int
    documents: Mapping[Match, int]
    recall: Mapping[str, Mapping[int, float]]
    queries: Mapping[str, float]
    asked: Mapping[str, int]

    def share(self, count: int) -> float | None:
        """Return a count as a share of the questions with golden documents; None without any."""
        return count / self.with_golden if self.with_golden else None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "dataset": self.dataset,
            "hops": self.hops,
            "questions": self.questions,
            "with_golden_documents": self.with_golden,
            "golden_documents_all_in_corpus": self.all_found,
            "golden_documents_partly_in_corpus": self.some_found,
            "golden_documents_not_in_corpus": self.none_found,
            "share_all": self.share(self.all_found),
            "share_partly": self.share(self.some_found),
            "share_none": self.share(self.none_found),
            "documents": {str(match): count for match, count in self.documents.items()},
            "recall": {way: {str(k): value for k, value in at.items()} for way, at in self.recall.items()},
            "queries_per_question": dict(self.queries),
            "recall_questions": dict(self.asked),
        }


@dataclass(frozen=True, slots=True)
class CorpusAudit:
    """What an audit found.

    Attributes:
        passages: size of the corpus.
        threshold: cosine from which a passage is a near-duplicate of a golden document.
        groups: of every dataset all questions, then those of each hop count.
        locations: where the corpus has each golden document.
        needed_by: the ids of the questions that need a document.
    """

    passages: int
    threshold: float
    groups: list[GroupAudit]
    locations: Mapping[Passage, Located]
    needed_by: Mapping[Passage, Sequence[str]]

    @property
    def missing(self) -> list[Passage]:
        """Golden documents that the corpus lacks."""
        return [document for document, located in self.locations.items() if located.match is Match.MISSING]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "passages": self.passages,
            "threshold": self.threshold,
            "depths": list(DEPTHS),
            "groups": [group.to_json() for group in self.groups],
            "ids_taken_by_other_content": sum(located.id_taken for located in self.locations.values()),
            "missing_documents": [
                {
                    "id": document.id,
                    "title": document.title,
                    "questions": list(self.needed_by[document][:_LISTED_QUESTIONS]),
                }
                for document in self.missing
            ],
        }


def audit(
    questions: Sequence[Question],
    knowledge_base: Sequence[Passage],
    engine: SearchEngine,
    threshold: float = NEAR_DUPLICATE,
    advance: Advance = unseen,
) -> CorpusAudit:
    """Return which golden documents the knowledge base has, and how many of them searches find.

    Args:
        questions: of any number of datasets.
        knowledge_base: the passages of the corpus.
        engine: searches that corpus.
        threshold: cosine from which a passage is a near-duplicate.
        advance: called with shares of the whole work, 1 in sum.
    """

    def half(amount: float, note: str = "") -> None:
        advance(amount / 2, note)

    locations = locate(golden_documents(questions), knowledge_base, engine, threshold, half)
    recalls = recall_of(questions, locations, engine, half)
    groups = [_group(*key, members, recalls, locations, questions) for key, members in _groups(questions).items()]
    needed_by: dict[Passage, list[str]] = {}
    for question in questions:
        for passage in question.golden_passages:
            needed_by.setdefault(passage, []).append(question.id)
    return CorpusAudit(len(knowledge_base), threshold, groups, locations, needed_by)


def _groups(questions: Sequence[Question]) -> dict[tuple[str, int | None], list[int]]:
    """Return the positions of the questions of each dataset, then of each of its hop counts."""
    groups: dict[tuple[str, int | None], list[int]] = {}
    for dataset in dict.fromkeys(question.dataset for question in questions):
        members = [place for place, question in enumerate(questions) if question.dataset == dataset]
        groups[dataset, None] = members
        for hops in sorted({hops for place in members if (hops := questions[place].hops) is not None}):
            groups[dataset, hops] = [place for place in members if questions[place].hops == hops]
    return groups


def _group(
    dataset: str,
    hops: int | None,
    members: Sequence[int],
    recalls: Sequence[Mapping[str, Recall]],
    locations: Mapping[Passage, Located],
    questions: Sequence[Question],
) -> GroupAudit:
    found = [
        [locations[passage].match for passage in questions[place].golden_passages]
        for place in members
        if questions[place].golden_passages
    ]
    lacking = [sum(match is Match.MISSING for match in matches) for matches in found]
    counts = Counter(match for matches in found for match in matches)
    by_way = {way: [recalls[place][way] for place in members if way in recalls[place]] for way in WAYS}
    by_way = {way: listed for way, listed in by_way.items() if listed}
    return GroupAudit(
        dataset=dataset,
        hops=hops,
        questions=len(members),
        with_golden=len(found),
        all_found=sum(lacks == 0 for lacks in lacking),
        some_found=sum(0 < lacks < len(matches) for lacks, matches in zip(lacking, found, strict=True)),
        none_found=sum(lacks == len(matches) for lacks, matches in zip(lacking, found, strict=True)),
        documents={match: counts[match] for match in Match},
        recall={
            way: {depth: fmean(recall.at_depth[depth] for recall in listed) for depth in DEPTHS}
            for way, listed in by_way.items()
        },
        queries={way: fmean(recall.queries for recall in listed) for way, listed in by_way.items()},
        asked={way: len(listed) for way, listed in by_way.items()},
    )
