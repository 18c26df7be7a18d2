"""What a comparison compares."""

from pathlib import Path

import pytest

from stepsearch.cli.arguments import COMPARED
from stepsearch.cli.command_line import parse
from stepsearch.cli.comparison_jobs import Start
from stepsearch.cli.methods import METHODS, Method, read_methods
from stepsearch.config import load_config
from stepsearch.errors import ConfigError

TINY = Path(__file__).parents[3] / "config" / "tiny.yaml"


def read(*names: str, own: tuple[str, ...] = (), overrides: tuple[str, ...] = ()) -> dict[str, Method]:
    return {method.name: method for method in read_methods(names, own, TINY, overrides)}


def start_of(*overrides: str) -> str:
    return Start(load_config(TINY, overrides), False, None, Path("seed-0")).folder.name


def test_help_names_every_method() -> None:
    assert tuple(METHODS) == COMPARED


def test_commas_and_spaces() -> None:
    assert list(read("steppo,ppo", "key")) == ["steppo", "ppo", "key"]
    args = parse(["compare", "--methods", "steppo,ppo", "key", "training.max_steps=2", "--seeds", "3"])
    assert (args.methods, args.seeds, args.overrides) == (["steppo,ppo", "key"], 3, ["training.max_steps=2"])


@pytest.mark.parametrize(
    ("name", "step_scale", "gain", "penalty", "gamma_key"),
    [
        ("steppo", 0.6, True, True, 0.618),
        ("ppo", 0.0, True, True, 0.0),
        ("gain", 0.6, True, False, 0.0),
        ("penalty", 0.6, False, True, 0.0),
        ("key", 0.0, True, True, 0.618),
        ("gain-penalty", 0.6, True, True, 0.0),
    ],
)
def test_the_terms_of_each_method(name: str, step_scale: float, gain: bool, penalty: bool, gamma_key: float) -> None:
    reward = read(name)[name].config.reward
    terms = (reward.step_scale, reward.information_gain, reward.redundancy_penalty, reward.gamma_key)
    assert terms == (step_scale, gain, penalty, gamma_key)
    assert reward.answer is True


def test_overrides_hold_for_all_and_a_methods_own_win() -> None:
    methods = read("steppo", "ppo", overrides=("reward.step_scale=0.3", "training.max_steps=2"))
    assert [method.config.reward.step_scale for method in methods.values()] == [0.3, 0.0]
    assert {method.config.training.max_steps for method in methods.values()} == {2}


def test_ones_own_methods(tmp_path: Path) -> None:
    file = tmp_path / "whole.yaml"
    file.write_text("model: {name: tiny}\ntraining: {clip_range: 0.4}\n", encoding="utf-8")
    args = parse(
        ["compare", "--method", "low=training.kl_coef=0.001,world.hops=[2, 3],seed_of=1", "--method", f"w={file}"]
    )
    low, whole = args.method
    assert low.startswith("low=")
    assert args.overrides == []
    methods = read(own=("low=training.kl_coef=0.001,world.hops=[2, 3]", f"whole={file}"), overrides=("search.top_k=2",))
    assert methods["low"].config.training.kl_coef == 0.001
    assert methods["low"].config.world.hops == (2, 3)
    assert methods["low"].settings == ("training.kl_coef=0.001", "world.hops=[2, 3]")
    assert methods["whole"].config.training.clip_range == 0.4
    # A file takes the place of --config; trailing overrides hold for it too.
    assert methods["whole"].config.reward.step_scale == 1.0
    assert {method.config.search.top_k for method in methods.values()} == {2}
    assert whole == f"w={file}"


@pytest.mark.parametrize("name", ["start-x", "a/b", "", "..", "logs", "before"])
def test_names_that_are_no_folders_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not of the form"):
        read(own=(f"{name}=reward.answer=false",))


@pytest.mark.parametrize("override", ["reward.step_scale=0", "training.learning_rate=1e-3", "rollout.slots=256"])
def test_what_a_start_does_not_depend_on_is_shared(override: str) -> None:
    assert start_of(override) == start_of()


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "world.test_questions=3",
        "model.max_length=400",
        "warm_start.learning_rate=2e-3",
        "search.top_k=2",
        "rollout.max_observation_tokens=80",
        "reward.max_search_steps=4",
        "evaluation.temperature=0.5",
    ],
)
def test_what_a_start_depends_on_is_not(override: str) -> None:
    assert start_of(override) != start_of()
