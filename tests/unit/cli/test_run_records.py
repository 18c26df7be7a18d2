from pathlib import Path

import pytest

from stepsearch.cli.run_records import (
    Origin,
    add_results,
    changed_settings,
    describer,
    method_of,
    run_record,
    typed_command,
    warm_start_record,
)
from stepsearch.config import Config, load_config
from stepsearch.data import KnowledgeBase
from stepsearch.models import StepSearchModel
from stepsearch.models.model_folder import read_run
from stepsearch.models.run_record import CorpusUsed, QuestionsUsed, Result, RunRecord
from stepsearch.types import Passage, Question

GOLDEN = [Passage("1", "Ada Kern was born in Velm."), Passage("2", "Nils Bor leads Velm."), Passage("3", "Not there.")]
QUESTIONS = [
    Question("a", "Who?", ("x",), golden_passages=(GOLDEN[0], GOLDEN[1]), dataset="musique"),
    Question("b", "What?", ("y",), golden_passages=(GOLDEN[1], GOLDEN[2]), dataset="musique"),
]
DEV = [Question("c", "Where?", ("z",), dataset="musique")] * 4


@pytest.fixture
def config(tmp_path: Path) -> Config:
    KnowledgeBase.create(tmp_path / "knowledge_base", [*GOLDEN[:2], Passage("9", "Something else.")])
    return load_config(
        overrides=[
            "seed=5",
            "model.name=Qwen/Qwen2.5-3B",
            "search.engine_type=bm25",
            f"search.knowledge_base={tmp_path / 'knowledge_base'}",
            "training.batch_size=8",
            "search.remote.url=http://user:word@host/retrieve",
        ]
    )


@pytest.mark.parametrize(
    ("overrides", "rewards", "method"),
    [
        ([], None, "StePPO"),
        (["reward.gamma_key=0"], None, "StePPO"),
        (["reward.step_scale=0"], None, "StePPO"),
        (["reward.step_scale=0", "reward.gamma_key=0"], None, "outcome-only PPO"),
        (["reward.step_scale=0", "reward.search_key=false"], None, "outcome-only PPO"),
        (
            ["reward.information_gain=false", "reward.redundancy_penalty=false", "reward.gamma_key=0"],
            None,
            "outcome-only PPO",
        ),
        ([], "ShortEpisodes", "PPO with the rewards of ShortEpisodes"),
    ],
)
@pytest.mark.parametrize("in_groups", [False, True])
def test_a_run_is_called_what_its_settings_make_of_it(
    overrides: list[str], rewards: str | None, method: str, in_groups: bool
) -> None:
    groups = ["training.critic=group", "training.rollouts_per_question=2", "training.kl_mode=loss"]
    config = load_config(None, [*overrides, *(groups if in_groups else [])])
    in_a_group = {"StePPO": "GRPO with StePPO's rewards", "outcome-only PPO": "GRPO"}
    expected = in_a_group.get(method, method.replace("PPO with", "GRPO with")) if in_groups else method
    assert method_of(config, rewards) == expected


def test_a_script_s_own_engine_is_named(config: Config) -> None:
    record = run_record(config, "StePPO", QUESTIONS, Origin(engine="MyEngine"))
    assert record.corpus == CorpusUsed("MyEngine", 3)


def test_the_record_of_a_run(config: Config, tmp_path: Path) -> None:
    origin = Origin(tmp_path / "train_processed.json", tmp_path / "dev_processed.json", "stepsearch train")
    record = run_record(config, "StePPO", QUESTIONS, origin, DEV)
    assert record.base_model == "Qwen/Qwen2.5-3B"
    assert record.seed == 5
    assert record.questions == (
        QuestionsUsed("training", "train_processed.json", {"musique": 2}),
        QuestionsUsed("choosing the best model", "dev_processed.json", {"musique": 4}),
    )
    # Of three golden documents the corpus has two.
    fingerprint = KnowledgeBase.open(tmp_path / "knowledge_base").fingerprint
    assert record.corpus == CorpusUsed("bm25", 3, 3, fingerprint, 3, 2)
    assert record.settings == {"search.engine_type": "bm25", "training.batch_size": 8}
    assert record.commands == ("stepsearch train",)
    assert record.versions["torch"]


def test_dev_metrics_become_results_with_intervals(config: Config) -> None:
    describe = describer(config, QUESTIONS, Origin(), DEV)
    run = RunRecord.from_json(
        describe(12, 40, {"eval/musique/em": 0.5, "eval/musique/f1": 0.75, "eval/musique/x": 1})["run"]
    )
    em, f1 = run.results
    assert (run.step, run.total_steps) == (12, 40)
    # Wilson's interval of 2 right of 4.
    assert (em.figure, em.split, em.value, em.count) == ("em", "dev", 0.5, 4)
    assert em.low == pytest.approx(0.1500, abs=1e-4)
    assert em.high == pytest.approx(0.8500, abs=1e-4)
    assert (f1.figure, f1.value, f1.low) == ("f1", 0.75, None)
    assert describe(13, 40, {})["run"]["results"] == ()


def test_a_run_goes_on_with_what_its_base_says(config: Config, policy: StepSearchModel, tmp_path: Path) -> None:
    folder = tmp_path / "start"
    origin = Origin(command="stepsearch warm-start")
    policy.save(folder, warm_start_record(config, QUESTIONS, origin))
    started = config.model_copy(update={"model": config.model.model_copy(update={"name": str(folder)})})
    record = run_record(started, "StePPO", QUESTIONS, Origin(command="stepsearch train"))
    assert record.base_model == "Qwen/Qwen2.5-3B"
    assert record.commands == ("stepsearch warm-start", "stepsearch train")


def test_further_results_reach_the_card(config: Config, policy: StepSearchModel, tmp_path: Path) -> None:
    policy.save(tmp_path / "model", warm_start_record(config, QUESTIONS, Origin()))
    add_results(tmp_path / "model", (Result("musique", "test", "em", 0.5, 10),))
    run = read_run(str(tmp_path / "model"))
    assert run is not None
    assert run.results == (Result("musique", "test", "em", 0.5, 10),)
    policy.save(tmp_path / "unknown", {})
    add_results(tmp_path / "unknown", (Result("musique", "test", "em", 0.5, 10),))
    assert read_run(str(tmp_path / "unknown")) is None


def test_settings_that_may_be_private_are_not_told() -> None:
    config = load_config(
        overrides=["search.cache_dir=/home/me", "search.mcp.command=[run, --key, secret]", "rollout.slots=3"]
    )
    assert changed_settings(config) == {"rollout.slots": 3}


def test_paths_below_the_working_folder_begin_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [
        *("train", "--musique-path", f"{tmp_path}/data/train.json", f"--output-dir={tmp_path}/runs/a b"),
        *(f"model.name={tmp_path}/start", "model.dtype=float32", "reward.stop_words=none", "--config", "/other/x.yaml"),
    ]
    assert typed_command(argv) == (
        "stepsearch train --musique-path data/train.json '--output-dir=runs/a b' model.name=start model.dtype=float32 "
        "reward.stop_words=none --config /other/x.yaml"
    )


def test_a_command_is_told_without_secrets_and_without_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    argv = [
        "train",
        "--musique-path",
        "/home/me/a b.json",
        "search.remote.url=http://u:p@host",
        "--token",
        "x",
        "seed=1",
    ]
    assert (
        typed_command(argv) == "stepsearch train --musique-path '~/a b.json' search.remote.url=... --token ... seed=1"
    )
