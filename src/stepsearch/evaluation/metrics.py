"""What finished episodes say about a policy. Every figure stands with the number of things it is a mean over."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

from stepsearch.matching.answers import cover_exact_match, dataset_f1, exact_match
from stepsearch.rewards.golden_recall import found_golden
from stepsearch.types import Passage, Question, SearchStep, StopReason, Trajectory


@dataclass(frozen=True, slots=True)
class EpisodeScore:
    """One episode against its gold data, without its texts and tokens; None where there is no such figure.

    Attributes:
        id, hops, kind: of the question.
        em, f1, cover_em: of the answer; F1 by the rule of the question's dataset.
        judged: what a judge said of the answer, 0 to 1.
        searches: issued, failed ones included.
        failed, empty, redundant: searches without a result in time, with an empty one, with nothing but documents that
            an earlier one had brought.
        new_golden: searches that brought a golden document which no earlier one had brought.
        retrieved, repeated: documents, and those of them that an earlier search had brought.
        recall_by_step: [searches] share of the golden documents retrieved after each search; None without any.
        golden_recall: the same at the end.
        superfluous: searches issued when all golden documents were in hand.
        answered: whether there is an answer.
        well_formed: whether there is no format error.
        stop_reason: why it ended.
        sampled_tokens, observed_tokens: after the prompt; None where the token ids are not known.
        latency_seconds: as `play` measures it.
        sample: which of the question's episodes, from 0.
    """

    id: str
    hops: int | None
    kind: str
    em: float
    f1: float
    cover_em: float
    judged: float | None
    searches: int
    failed: int
    empty: int
    redundant: int
    new_golden: int
    retrieved: int
    repeated: int
    recall_by_step: tuple[float, ...] | None
    superfluous: int | None
    answered: bool
    well_formed: bool
    stop_reason: StopReason
    sampled_tokens: int | None
    observed_tokens: int | None
    latency_seconds: float | None
    sample: int = 0

    @property
    def golden_recall(self) -> float | None:
        """Share of the golden documents retrieved; None without any."""
        if self.recall_by_step is None:
            return None
        return self.recall_by_step[-1] if self.recall_by_step else 0.0

    @property
    def played(self) -> bool:
        """Whether the episode came to an end of its own; what could not be played counts as wrong, and no further."""
        return self.stop_reason not in (StopReason.ERROR, StopReason.NO_REPLY)


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
    """Return EM and F1 of an answer against the best of the gold answers; F1 by the rule of the question's dataset."""
    return exact_match(answer, question.answers), dataset_f1(answer, question.answers, question.dataset)


def score_episode(
    trajectory: Trajectory, latency_seconds: float | None = None, judged: float | None = None, sample: int = 0
) -> EpisodeScore:
    """Return how one episode did."""
    question, steps = trajectory.question, trajectory.steps
    em, f1 = score_answer(question, trajectory.answer)
    found = [{passage.id for passage in step.passages} for step in steps]
    earlier = list(accumulate(found, set[str].union, initial=set[str]()))[:-1]
    recalls = _recall_by_step(question.golden_passages, steps) if question.golden_passages else None
    tokens = len(trajectory.response_mask) if trajectory.prompt_ids else None
    sampled = sum(trajectory.response_mask)
    return EpisodeScore(
        id=question.id,
        hops=question.hops,
        kind=question.kind,
        em=em,
        f1=f1,
        cover_em=cover_exact_match(trajectory.answer, question.answers),
        judged=judged,
        searches=len(steps),
        failed=sum(step.failed for step in steps),
        empty=sum(not step.failed and not step.passages for step in steps),
        redundant=sum(bool(ids) and ids <= met for ids, met in zip(found, earlier, strict=True)),
        new_golden=sum(now > before for before, now in pairwise((0.0, *(recalls or ())))),
        retrieved=sum(len(step.passages) for step in steps),
        repeated=sum(p.id in met for step, met in zip(steps, earlier, strict=True) for p in step.passages),
        recall_by_step=recalls,
        superfluous=None if recalls is None else sum(recall == 1 for recall in recalls[:-1]),
        answered=trajectory.answer is not None,
        well_formed=trajectory.format_error is None,
        stop_reason=trajectory.stop_reason,
        sampled_tokens=None if tokens is None else sampled,
        observed_tokens=None if tokens is None else tokens - sampled,
        latency_seconds=latency_seconds,
        sample=sample,
    )


def _recall_by_step(golden: Sequence[Passage], steps: Sequence[SearchStep]) -> tuple[float, ...]:
    missing = list(golden)
    recalls: list[float] = []
    for step in steps:
        found = found_golden(missing, step.passages)
        missing = [passage for passage in missing if passage not in found]
        recalls.append((len(golden) - len(missing)) / len(golden))
    return tuple(recalls)


def measure(trajectories: Sequence[Trajectory]) -> EvaluationMetrics:
    """Return the metrics of at least one finished episode."""
    return measure_scores([score_episode(trajectory) for trajectory in trajectories])


def measure_scores(scores: Sequence[EpisodeScore], samples: int = 1) -> EvaluationMetrics:
    """Return the metrics of at least one scored episode.

    What could not be played counts as wrong; the figures of searches and format are of what was played.

    Args:
        scores: of the episodes.
        samples: episodes of every question; counts are of questions.
    """
    by_hops: dict[int, list[float]] = {}
    for score in scores:
        if score.hops is not None:
            by_hops.setdefault(score.hops, []).append(score.em)
    played = [score for score in scores if score.played]
    recalls = [score.golden_recall for score in played if score.golden_recall is not None]
    retrieved = sum(score.retrieved for score in played)
    em, count = mean(score.em for score in scores), len(scores) // samples
    return EvaluationMetrics(
        count=count,
        em=em,
        f1=mean(score.f1 for score in scores),
        em_interval=wilson_interval(em, count),
        em_by_hops={hops: mean(values) for hops, values in sorted(by_hops.items())},
        count_by_hops={hops: len(values) // samples for hops, values in sorted(by_hops.items())},
        searches_per_question=mean(score.searches for score in played or scores),
        golden_recall=mean(recalls) if recalls else None,
        golden_recall_count=len(recalls),
        redundancy=sum(score.repeated for score in played) / retrieved if retrieved else None,
        redundancy_count=retrieved,
        format_rate=mean(score.well_formed for score in played or scores),
        stop_reasons=dict(sorted(Counter(str(score.stop_reason) for score in scores).items())),
        search=_analyse_searches(played),
    )


def _analyse_searches(scores: Sequence[EpisodeScore]) -> SearchAnalytics:
    """Return what became of every search of the episodes."""
    judged = sum(score.searches for score in scores if score.recall_by_step is not None)
    golden = sum(score.new_golden for score in scores)
    return SearchAnalytics(
        queries=sum(score.searches for score in scores),
        failed=sum(score.failed for score in scores),
        empty=sum(score.empty for score in scores),
        redundant=sum(score.redundant for score in scores),
        golden=golden,
        success_rate=golden / judged if judged else None,
        judged=judged,
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
