"""What finished episodes say about a policy. Every figure stands with the number of things it is a mean over."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stepsearch.matching.answers import exact_match, token_f1
from stepsearch.rewards.golden_recall import found_golden, golden_recall
from stepsearch.types import Question, Trajectory


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """One episode against its gold data; None where the question has no golden documents or nothing was retrieved.

    `repeated` counts retrieved documents that an earlier search had brought, `redundant` the searches that brought
    nothing else.
    """

    em: float
    f1: float
    searches: int
    golden_recall: float | None
    retrieved: int
    repeated: int
    redundant: int


@dataclass(frozen=True, slots=True)
class SearchAnalytics:
    """What became of the searches.

    Attributes:
        queries: searches issued.
        failed: the engine gave no result in time, retries included.
        empty: the engine answered with nothing.
        redundant: brought documents, all of which an earlier search of the episode had brought.
        golden: brought a golden document that no earlier search of the episode had brought.
        success_rate: `golden` over the queries of questions with golden documents; None without such queries.
        judged: those queries.
    """

    queries: int
    failed: int
    empty: int
    redundant: int
    golden: int
    success_rate: float | None
    judged: int


@dataclass(frozen=True, slots=True)
class EvaluationMetrics:
    """Means over `count` questions unless a count of their own says otherwise.

    Attributes:
        em_interval: 95 % Wilson interval of `em`.
        em_by_hops, count_by_hops: keyed by the number of hops, where the source says so.
        golden_recall: share of a question's golden documents retrieved, over `golden_recall_count` questions.
        redundancy: share of the `redundancy_count` retrieved documents that an earlier search had brought.
        format_rate: share of episodes without a format error.
        stop_reasons: episodes by why they ended.
    """

    count: int
    em: float
    f1: float
    em_interval: tuple[float, float]
    em_by_hops: Mapping[int, float]
    count_by_hops: Mapping[int, int]
    searches_per_question: float
    golden_recall: float | None
    golden_recall_count: int
    redundancy: float | None
    redundancy_count: int
    format_rate: float
    stop_reasons: Mapping[str, int]
    search: SearchAnalytics

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, keyed by the names above."""
        record = asdict(self)
        for name in ("em_by_hops", "count_by_hops"):
            record[name] = {str(hops): value for hops, value in record[name].items()}
        return record

    def scalars(self) -> dict[str, float]:
        """Return the figures that a training log follows; those that are not computed are left out."""
        names = ("em", "f1", "golden_recall", "redundancy", "searches_per_question", "format_rate")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def score_answer(question: Question, answer: str | None) -> tuple[float, float]:
    """Return EM and F1 of an answer against the best of the gold answers."""
    return exact_match(answer, question.answers), token_f1(answer, question.answers)


def score_episode(trajectory: Trajectory) -> EpisodeScore:
    """Return how one episode did."""
    em, f1 = score_answer(trajectory.question, trajectory.answer)
    seen: set[str] = set()
    retrieved = repeated = redundant = 0
    for step in trajectory.steps:
        ids = [passage.id for passage in step.passages]
        retrieved += len(ids)
        repeated += sum(passage_id in seen for passage_id in ids)
        redundant += bool(ids) and seen.issuperset(ids)
        seen.update(ids)
    recall = golden_recall(trajectory.question.golden_passages, trajectory.steps)
    return EpisodeScore(em, f1, len(trajectory.steps), recall, retrieved, repeated, redundant)


def measure(trajectories: Sequence[Trajectory]) -> EvaluationMetrics:
    """Return the metrics of at least one finished episode."""
    scores = [score_episode(trajectory) for trajectory in trajectories]
    by_hops: dict[int, list[float]] = {}
    for trajectory, score in zip(trajectories, scores, strict=True):
        if trajectory.question.hops is not None:
            by_hops.setdefault(trajectory.question.hops, []).append(score.em)
    recalls = [score.golden_recall for score in scores if score.golden_recall is not None]
    retrieved = sum(score.retrieved for score in scores)
    em = mean(score.em for score in scores)
    return EvaluationMetrics(
        count=len(scores),
        em=em,
        f1=mean(score.f1 for score in scores),
        em_interval=wilson_interval(em, len(scores)),
        em_by_hops={hops: mean(values) for hops, values in sorted(by_hops.items())},
        count_by_hops={hops: len(values) for hops, values in sorted(by_hops.items())},
        searches_per_question=mean(score.searches for score in scores),
        golden_recall=mean(recalls) if recalls else None,
        golden_recall_count=len(recalls),
        redundancy=sum(score.repeated for score in scores) / retrieved if retrieved else None,
        redundancy_count=retrieved,
        format_rate=mean(trajectory.format_error is None for trajectory in trajectories),
        stop_reasons=dict(sorted(Counter(str(trajectory.stop_reason) for trajectory in trajectories).items())),
        search=analyse_searches(trajectories, sum(score.redundant for score in scores)),
    )


def analyse_searches(trajectories: Iterable[Trajectory], redundant: int) -> SearchAnalytics:
    """Return what became of every search of the episodes, `redundant` of which brought nothing new."""
    queries = failed = empty = golden_hits = judged = 0
    for trajectory in trajectories:
        missing = list(trajectory.question.golden_passages)
        judged += len(trajectory.steps) if missing else 0
        for step in trajectory.steps:
            queries += 1
            failed += step.failed
            empty += not step.failed and not step.passages
            found = found_golden(missing, step.passages)
            golden_hits += bool(found)
            missing = [passage for passage in missing if passage not in found]
    return SearchAnalytics(
        queries, failed, empty, redundant, golden_hits, golden_hits / judged if judged else None, judged
    )


def mean(values: Iterable[float]) -> float:
    """Return the mean of at least one value."""
    listed = list(values)
    return math.fsum(listed) / len(listed)


def wilson_interval(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a share seen over `count` trials (Wilson 1927); 95 % for the default z."""
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    centre = share + z * z / (2 * count)
    scale = 1 + z * z / count
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)
