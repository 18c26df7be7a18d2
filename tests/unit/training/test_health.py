import pytest

from stepsearch.config import TrainingSettings
from stepsearch.training.health import alarms, collapse

METRICS = {
    "policy/kl_to_reference": 0.5,
    "policy/entropy": 0.2,
    "rollout/searches_per_question": 1.5,
    "rollout/format_rate": 0.75,
}


def test_by_default_nothing_is_watched() -> None:
    assert collapse(METRICS, TrainingSettings()) is None
    assert alarms(METRICS, TrainingSettings()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stop_kl": 0.4}, "the KL to the reference is 0.5, above training.stop_kl=0.4"),
        ({"stop_kl": 0.6}, None),
        ({"stop_entropy": 0.3}, "the entropy is 0.2, below training.stop_entropy=0.3"),
        ({"stop_entropy": 0.1}, None),
    ],
)
def test_a_collapse_ends_the_run(changes: dict[str, float], reason: str | None) -> None:
    assert collapse(METRICS, TrainingSettings.model_validate(changes)) == reason


def test_without_a_reference_there_is_no_kl_to_stop_at() -> None:
    assert collapse({"policy/entropy": 0.2}, TrainingSettings(stop_kl=0.1)) is None


def test_an_engine_that_disagrees_with_the_trainer_is_said() -> None:
    (alarm,) = alarms({**METRICS, "rollout/logprob_gap": 0.01}, TrainingSettings())
    assert alarm.startswith("rollout/logprob_gap is 0.01: ")
    assert alarms({**METRICS, "rollout/logprob_gap": 1e-5}, TrainingSettings()) == []


def test_what_falls_off_is_said() -> None:
    settings = TrainingSettings(alarm_searches=2.0, alarm_format_rate=0.5)
    assert alarms(METRICS, settings) == ["rollout/searches_per_question is 1.5, below training.alarm_searches=2"]
