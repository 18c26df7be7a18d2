"""What a step's episodes and rewards say, as numbers for the log. Pure functions; keys as in docs/algorithm.md."""

from collections import Counter
from collections.abc import Iterable, Sequence

from torch import Tensor

from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.rewards.information_gain import random_document_gain
from stepsearch.search.guarded_search import SearchStatistics
from stepsearch.training.advantages import explained_variance
from stepsearch.training.batch import PPOBatch
from stepsearch.training.kl import k1
from stepsearch.training.mismatch import measure_mismatch
from stepsearch.types import StopReason, Trajectory, TrajectoryReward

_OF_EVALUATIONS = (StopReason.NO_REPLY, StopReason.ERROR)

RANDOM_GAIN_EPISODES = 16


def rollout_metrics(trajectories: Sequence[Trajectory], seconds: float) -> dict[str, float]:
    """Return means over episodes (searches, format, lengths), the share of each reason to stop, and the speed."""
    count = len(trajectories)
    reasons = Counter(trajectory.stop_reason for trajectory in trajectories)
    sampled = sum(sum(trajectory.response_mask) for trajectory in trajectories)
    return {
        "rollout/searches_per_question": sum(len(t.steps) for t in trajectories) / count,
        "rollout/format_rate": sum(t.format_error is None for t in trajectories) / count,
        "rollout/response_tokens": sum(len(t.response_ids) for t in trajectories) / count,
        "rollout/sampled_tokens": sampled / count,
        "rollout/tokens_per_second": sampled / seconds,
        "rollout/corrections": sum(t.corrections for t in trajectories) / count,
        **{
            f"rollout/stop/{reason.value}": reasons[reason] / count
            for reason in StopReason
            if reason not in _OF_EVALUATIONS
        },
    }


def reward_metrics(rewards: Sequence[TrajectoryReward]) -> dict[str, float]:
    """Return means over the episodes that have each part; a part that none has is left out."""
    steps = [reward.steps for reward in rewards if reward.steps is not None]
    means = {
        "reward/total": _mean(reward.total for reward in rewards),
        "reward/outcome": _mean(reward.outcome for reward in rewards),
        "reward/answer": _mean(reward.answer for reward in rewards),
        "reward/search_key": _mean(reward.search_key for reward in rewards if reward.search_key is not None),
        "reward/information_gain": _mean(sum(step.information_gain for step in parts) for parts in steps),
        "reward/redundancy_penalty": _mean(sum(step.redundancy_penalty for step in parts) for parts in steps),
        "rollout/golden_recall": _mean(r.golden_recall for r in rewards if r.golden_recall is not None),
    }
    return {key: mean for key, mean in means.items() if mean is not None}


def search_metrics(statistics: SearchStatistics) -> dict[str, float]:
    """Return how many queries were asked, how many needed no engine or got no answer, the speed, and the seconds.

    The seconds are a part of the rollout's, which goes on meanwhile.
    """
    metrics = {
        "search/queries": float(statistics.queries),
        "search/cache_hits": float(statistics.cache_hits),
        "search/failures": float(statistics.failures),
        "time/search": statistics.seconds,
    }
    if statistics.seconds:
        metrics["search/queries_per_second"] = statistics.queries / statistics.seconds
    return metrics


def batch_metrics(batch: PPOBatch, entropy: Tensor | None) -> dict[str, float]:
    """Return what was known of a batch before the update, as means over sampled tokens.

    `rollout/logprob_gap`, `mismatch_kl` and `mismatch_ratio_max` say how far the sampling engine's log-probabilities
    are from the trainer's; they and the entropy are left out where the policy was not read.
    """
    mask = batch.response_mask
    tokens = mask.sum().clamp(min=1)
    means: dict[str, Tensor] = {}
    if batch.old_values is not None:
        means["value/mean"] = (batch.old_values * mask).sum() / tokens
    if entropy is not None:
        means["policy/entropy"] = entropy.sum() / tokens
    if batch.ref_logprobs is not None:
        means["policy/kl_to_reference"] = (k1(batch.old_logprobs, batch.ref_logprobs) * mask).sum() / tokens
    measured = {key: float(mean) for key, mean in means.items()}
    if entropy is not None:
        mismatch = measure_mismatch(batch.old_logprobs, batch.rollout_logprobs, mask)
        measured["rollout/logprob_gap"] = float(mismatch.gap / tokens)
        measured["rollout/mismatch_kl"] = float(mismatch.kl / tokens)
        measured["rollout/mismatch_ratio_max"] = float(mismatch.ratio_max)
    if batch.old_values is not None and batch.returns is not None:
        measured["value/explained_variance"] = explained_variance(batch.old_values, batch.returns, mask)
    return measured


def coverage_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Return the share of questions that can earn no step rewards, and no search-key reward."""
    count = len(trajectories)
    questions = [trajectory.question for trajectory in trajectories]
    without_queries = sum(not any(sub.search_queries for sub in question.sub_questions) for question in questions)
    return {
        "reward/without_golden_documents": sum(not question.golden_passages for question in questions) / count,
        "reward/without_reference_queries": without_queries / count,
    }


def retokenisation_metrics(trajectories: Sequence[Trajectory], tokenizer: ModelTokenizer) -> dict[str, float]:
    """Return the share of episodes that would change if they were decoded and tokenised again.

    Nothing here does that; it is what a pipeline that hands on text instead of token ids would get wrong.
    """
    episodes = [[*trajectory.prompt_ids, *trajectory.response_ids] for trajectory in trajectories]
    changed = sum(again != ids for again, ids in zip(tokenizer.retokenised(episodes), episodes, strict=True))
    return {"rollout/retokenisation_drift": changed / len(episodes)}


def random_gain_metrics(trajectories: Sequence[Trajectory], stop_words: frozenset[str]) -> dict[str, float]:
    """Return the information gain that documents found for another question would have earned.

    For the first few episodes, the documents are those of the next episode about another question: what common words
    alone are worth, to be read beside `reward/information_gain`.
    """
    found = [t for t in trajectories if t.question.golden_passages and any(step.passages for step in t.steps)]
    gains: list[float] = []
    for index, trajectory in enumerate(found[:RANDOM_GAIN_EPISODES]):
        others = (*found[index + 1 :], *found[:index])
        stranger = next((other for other in others if other.question.id != trajectory.question.id), None)
        if stranger is not None:
            golden = [passage.text for passage in trajectory.question.golden_passages]
            documents = [passage.text for step in stranger.steps for passage in step.passages]
            gains.append(random_document_gain(golden, documents, stop_words))
    mean = _mean(gains)
    return {} if mean is None else {"reward/random_document_gain": mean}


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
