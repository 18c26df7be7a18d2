"""Processor time of a trajectory's reward, beside scikit-learn's `TfidfVectorizer` fitted anew for every document.

    OMP_NUM_THREADS=1 python benchmarks/reward_cost.py

A trajectory has 4 golden documents and 4 steps of 3 documents, 100 words each, drawn from a Zipf-like vocabulary. Ours
is the whole reward (answer, search key, information gain, redundancy, recall); scikit-learn's side is the information
gain alone, a vectoriser fitted on [document] + golden documents for each document as the authors' code does. "cold"
forgets all cached texts before every trajectory, "warm" has met all of them. A redundancy threshold of 1 compares
documents by identity, as the authors' code does; below 1 each document is compared with all earlier ones. Both sides
must find the same gains, else the benchmark fails.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from stepsearch.config import RewardSettings
from stepsearch.matching import answers, tfidf
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.types import Passage, Question, SearchStep, StopReason, SubQuestion, Trajectory

GOLDEN, STEPS, DOCUMENTS, WORDS = 4, 4, 3, 100
VOCABULARY = 20_000


def draw_passages(draw: np.random.Generator, count: int) -> tuple[Passage, ...]:
    """Return passages whose r-th most frequent word has a probability proportional to 1 / r."""
    weights = 1 / np.arange(1, VOCABULARY + 1)
    words = draw.choice(VOCABULARY, size=(count, WORDS), p=weights / weights.sum()).tolist()
    return tuple(Passage.from_text(" ".join(f"word{word}" for word in row)) for row in words)


def draw_trajectory(draw: np.random.Generator) -> Trajectory:
    """Return an episode with an answer and a query per step."""
    golden = draw_passages(draw, GOLDEN)
    keys = [f"relation of subject {index}" for index in range(STEPS)]
    length = 2 * STEPS + 2
    return Trajectory(
        question=Question(
            id="",
            question="",
            answers=("the answer",),
            sub_questions=tuple(SubQuestion("", "", search_queries=(key, f"who is the {key}")) for key in keys),
            golden_passages=golden,
        ),
        prompt_ids=(1,),
        response_ids=(1,) * length,
        response_mask=(1, 0) * STEPS + (1, 1),
        rollout_logprobs=(0.0,) * length,
        steps=tuple(SearchStep(key, draw_passages(draw, DOCUMENTS), 2 * step) for step, key in enumerate(keys)),
        answer="an answer",
        format_error=None,
        stop_reason=StopReason.ANSWERED,
    )


def sklearn_gains(trajectory: Trajectory) -> list[float]:
    """Return the information gain of each step, a vectoriser fitted anew for each document."""
    golden = [passage.text for passage in trajectory.question.golden_passages]
    memory = np.zeros(len(golden))
    gains: list[float] = []
    for step in trajectory.steps:
        best = memory
        for passage in step.passages:
            matrix = TfidfVectorizer().fit_transform([passage.text, *golden])
            best = np.maximum(best, cosine_similarity(matrix[0:1], matrix[1:])[0])
        gains.append(float((best - memory).mean()))
        memory = best
    return gains


def our_gains(calculator: StepSearchRewardCalculator, trajectory: Trajectory) -> list[float]:
    """Return the information gain of each step, out of the whole reward."""
    return [step.information_gain for step in calculator.score(trajectory).steps or ()]


def forget() -> None:
    """Empty the caches of the reward."""
    for cached in (tfidf.count_terms, tfidf.golden_terms, answers.normalize):
        cached.cache_clear()


def milliseconds(gains: Callable[[Trajectory], list[float]], trajectories: list[Trajectory], cold: bool) -> float:
    """Return processor time per trajectory."""
    spent = 0.0
    for trajectory in trajectories:
        if cold:
            forget()
        started = time.process_time()
        gains(trajectory)
        spent += time.process_time() - started
    return 1000 * spent / len(trajectories)


def check(trajectories: list[Trajectory], calculator: StepSearchRewardCalculator) -> None:
    """Fail unless both sides find the same gains."""
    for trajectory in trajectories:
        pairs = zip(our_gains(calculator, trajectory), sklearn_gains(trajectory), strict=True)
        assert all(math.isclose(ours, theirs, abs_tol=1e-9) for ours, theirs in pairs)


def main() -> None:
    """Print one line per threshold and state of the caches, each repeat measured beside its own scikit-learn run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[1.0, 0.8], help="redundancy thresholds")
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    trajectories = [draw_trajectory(draw) for _ in range(options.trajectories)]
    print(f"{options.trajectories} trajectories, {options.repeats} repeats, scikit-learn {sklearn.__version__}")
    print("threshold  caches  ours ms  sklearn ms  ratio min / median / max")
    for threshold in options.thresholds:
        calculator = StepSearchRewardCalculator(RewardSettings(redundancy_threshold=threshold))
        forget()
        check(trajectories, calculator)
        # The check has left the caches warm.
        for cold in (False, True):
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(options.repeats):
                ours.append(milliseconds(partial(our_gains, calculator), trajectories, cold))
                theirs.append(milliseconds(sklearn_gains, trajectories, cold))
            ratios = sorted(slow / quick for slow, quick in zip(theirs, ours, strict=True))
            print(
                f"{threshold:9.1f}  {'cold' if cold else 'warm'}    {median(ours):7.3f}  {median(theirs):10.2f}  "
                f"{ratios[0]:.0f} / {median(ratios):.0f} / {ratios[-1]:.0f}"
            )


if __name__ == "__main__":
    main()
