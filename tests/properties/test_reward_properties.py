"""What holds of the paper's rewards whatever is retrieved."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepsearch.config import RewardSettings
from stepsearch.rewards import StepSearchRewardCalculator, token_level_scores
from stepsearch.types import Passage, Question, SearchStep, StopReason, Trajectory

WORDS = ["the", "of", "fox", "hen", "farm", "wood", "red", "lives", "in", "near", "castle", "king"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=10).map(" ".join)
PASSAGES = TEXTS.map(Passage.from_text)
STEPS = st.lists(st.tuples(st.lists(PASSAGES, max_size=4), st.booleans()), max_size=5)
GOLDEN = st.lists(PASSAGES, min_size=1, max_size=4)


def episode_of(steps: list[tuple[list[Passage], bool]], golden: list[Passage]) -> Trajectory:
    length = 2 * len(steps) + 1
    return Trajectory(
        question=Question("q", "?", ("a",), golden_passages=tuple(golden)),
        prompt_ids=(),
        response_ids=(0,) * length,
        response_mask=(1, 0) * len(steps) + (1,),
        rollout_logprobs=(0.0,) * length,
        steps=tuple(
            SearchStep("q", () if failed else tuple(passages), end_position=2 * i, failed=failed)
            for i, (passages, failed) in enumerate(steps)
        ),
        answer="a",
        format_error=None,
        stop_reason=StopReason.ANSWERED,
    )


def scored(steps: list[tuple[list[Passage], bool]], golden: list[Passage], threshold: float = 0.8):
    reward = StepSearchRewardCalculator(RewardSettings(redundancy_threshold=threshold)).score(episode_of(steps, golden))
    assert reward.steps is not None
    return reward


@given(steps=STEPS, golden=GOLDEN)
def test_gains_are_not_negative_and_sum_to_at_most_one(steps, golden) -> None:
    reward = scored(steps, golden)
    gains = [step.information_gain for step in reward.steps]
    assert all(gain >= 0 for gain in gains)
    assert sum(gains) <= 1 + 1e-12


@given(steps=STEPS, golden=GOLDEN)
def test_every_search_is_a_step_even_when_it_earns_nothing(steps, golden) -> None:
    reward = scored(steps, golden)
    assert len(reward.steps) == len(steps)
    scores = token_level_scores(episode_of(steps, golden), reward)
    assert len(scores) == 2 * len(steps) + 1
    assert sum(scores) == pytest.approx(reward.total)
    for (passages, failed), step in zip(steps, reward.steps, strict=True):
        if failed or not passages:
            assert (step.total, step.information_gain, step.redundancy_penalty) == (0.0, 0.0, 0.0)


@given(steps=STEPS, golden=GOLDEN, seed=st.integers(0, 99))
def test_the_order_of_documents_within_a_step_does_not_matter(steps, golden, seed) -> None:
    shuffler = random.Random(seed)
    shuffled = [(shuffler.sample(passages, len(passages)), failed) for passages, failed in steps]
    assert scored(steps, golden).steps == scored(shuffled, golden).steps


@given(steps=STEPS, golden=GOLDEN)
def test_by_identity_the_penalty_is_the_share_of_ids_met_in_earlier_steps(steps, golden) -> None:
    earlier: set[str] = set()
    for (passages, failed), step in zip(steps, scored(steps, golden, threshold=1.0).steps, strict=True):
        if failed or not passages:
            assert step.redundancy_penalty == 0.0
            continue
        assert step.redundancy_penalty == sum(passage.id in earlier for passage in passages) / len(passages)
        earlier |= {passage.id for passage in passages}


@given(steps=STEPS, golden=GOLDEN)
def test_a_lower_threshold_never_lowers_the_penalty(steps, golden) -> None:
    penalties = [
        [step.redundancy_penalty for step in scored(steps, golden, threshold).steps] for threshold in (1.0, 0.8, 0.4)
    ]
    for identity, near, loose in zip(*penalties, strict=True):
        assert identity <= near <= loose


@given(steps=STEPS, golden=GOLDEN)
def test_finding_a_golden_document_brings_the_sum_of_gains_to_its_share(steps, golden) -> None:
    reward = scored([*steps, (golden, False)], golden)
    worth = sum(bool(passage.text) for passage in golden) / len(golden)
    assert sum(step.information_gain for step in reward.steps) == pytest.approx(worth)
