"""The official recipe against numbers that the authors' released reward code returned."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from stepsearch.config import RewardSettings
from stepsearch.matching.tfidf import GoldenTerms
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.rewards.recipes import label_documents
from stepsearch.types import FormatError, Passage, Question, SearchStep, StopReason, SubQuestion, Trajectory

CASES_FILE = (
    Path(os.environ.get("STEPSEARCH_CASES", Path(__file__).parents[3] / "shared" / "cases"))
    / "official_reward_cases.json"
)
pytestmark = pytest.mark.skipif(not CASES_FILE.exists(), reason=f"no official cases at {CASES_FILE}")
RECORD: dict[str, Any] = json.loads(CASES_FILE.read_text(encoding="utf-8")) if CASES_FILE.exists() else {}
CASES: list[dict[str, Any]] = RECORD.get("cases", [])


def plain_passages(parsed: list[str]) -> tuple[Passage, ...]:
    """Return a step's documents as an engine gives them, without the label that the released parser leaves on."""
    return tuple(Passage.from_text(re.sub(r"\n?Doc \d+$", "", text)) for text in parsed[:-1]) + tuple(
        Passage.from_text(text) for text in parsed[-1:]
    )


def format_error(solution: str) -> FormatError | None:
    answers = list(re.finditer(r"<answer>.*?</answer>", solution, re.DOTALL))
    if not answers:
        return FormatError.NO_ANSWER
    if solution[answers[-1].end() :].strip():
        return FormatError.TEXT_AFTER_ANSWER
    return FormatError.SEVERAL_ANSWERS if len(answers) > 1 else None


def trajectory_of(case: dict[str, Any]) -> Trajectory:
    given, output = case["input"], case["output"]
    documents = output["parsed_documents_per_step"]
    queries = output["parsed_searches"]
    # A search that the environment did not answer issued its query, but has no documents.
    steps = [
        SearchStep(query, plain_passages(documents[i]), 2 * i)
        if i < len(documents)
        else SearchStep(query, (), 2 * i, failed=True)
        for i, query in enumerate(queries)
    ]
    length = 2 * len(steps) + 2
    return Trajectory(
        question=Question(
            id=case["name"],
            question="",
            answers=tuple(given["ground_truth"]["target"]),
            sub_questions=tuple(
                SubQuestion("", "", search_queries=tuple(keys)) for keys in given["ground_truth"].get("search_keys", [])
            ),
            golden_passages=tuple(
                Passage.from_text(document["paragraph_text"], document["title"]) for document in given["support_docs"]
            ),
        ),
        prompt_ids=(1,),
        response_ids=(1,) * length,
        response_mask=(1, 0) * (length // 2 - 1) + (1, 1),
        rollout_logprobs=(0.0,) * length,
        steps=tuple(steps),
        answer=output["extracted_answer"],
        format_error=format_error(given["solution_str"]),
        stop_reason=StopReason.ANSWERED,
    )


def settings_of(case: dict[str, Any], step_scale: float) -> RewardSettings:
    flags = case["input"]["config"]
    return RewardSettings(
        recipe="official",
        gamma_key=RECORD["constants"]["search_keys_score"],
        step_scale=step_scale,
        search_key=flags["search_key_reward"],
        information_gain=flags["information_gain"] and flags["search_steps_reward"],
        redundancy_penalty=flags["redundancy_penalty"] and flags["search_steps_reward"],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_documents_are_read_as_the_released_parser_reads_them(case: dict[str, Any]) -> None:
    for parsed in case["output"]["parsed_documents_per_step"]:
        assert [passage.id for passage in label_documents(plain_passages(parsed))] == parsed


@pytest.mark.parametrize(
    ("step_scale", "totals"),
    [(1.6, "token_step_rewards_effective_1.6x"), (0.6, "token_step_rewards_intended_0.6x")],
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_rewards_equal_the_released_code(case: dict[str, Any], step_scale: float, totals: str) -> None:
    output = case["output"]
    reward = StepSearchRewardCalculator(settings_of(case, step_scale)).score(trajectory_of(case))

    assert reward.answer == pytest.approx(output["result"]["answer_correct"], abs=1e-9)
    assert reward.search_key == pytest.approx(output["result"]["search_key_score"], abs=1e-9)
    assert reward.outcome == pytest.approx(output["result"]["score"], abs=1e-9)
    if not output["result"]["step_scores"]:
        assert not reward.steps
        return
    assert reward.steps is not None
    executed = reward.steps[: len(output["information_gains"])]
    assert [step.information_gain for step in executed] == pytest.approx(output["information_gains"], abs=1e-9)
    assert [step.redundancy_penalty for step in executed] == pytest.approx(output["redundancy_penalty"], abs=1e-9)
    assert [step.total for step in executed] == pytest.approx(output[totals], abs=1e-7)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_gains_of_a_wrong_format_are_dropped_not_lost(case: dict[str, Any]) -> None:
    """The released code computes gains for every trajectory; only its format check throws them away."""
    trajectory = trajectory_of(case)
    calculator = StepSearchRewardCalculator(settings_of(case, 1.0))
    golden = [passage.text for passage in trajectory.question.golden_passages]
    if trajectory.format_error in {FormatError.NO_ANSWER, FormatError.TEXT_AFTER_ANSWER}:
        history: list[list[str]] = []
        for index, gain in enumerate(case["output"]["information_gains"]):
            texts = [passage.text for passage in trajectory.steps[index].passages]
            penalty = case["output"]["redundancy_penalty"][index]
            reward = calculator.compute_step_reward(texts, golden, history, episode_id="", step=index)
            assert reward == pytest.approx(gain - penalty, abs=1e-9)
            history.append(texts)


@pytest.mark.parametrize("pair", RECORD.get("tfidf_pairs", []), ids=lambda pair: pair["input_str"][:20])
def test_tfidf_pairs_of_the_released_code(pair: dict[str, Any]) -> None:
    cosines = GoldenTerms(pair["concept_units"]).cosines(pair["input_str"])
    assert cosines == pytest.approx(pair["similarities"], abs=1e-9)
