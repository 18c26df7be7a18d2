"""The promised ways of extending StepSearch change what training does."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import stepsearch
from stepsearch.cli.main import main
from stepsearch.data import StepSearchDataset
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.search import ENGINES, SearchEngine

PROJECT = Path(__file__).parents[2]
CONFIG = PROJECT / "config" / "tiny.yaml"


class CustomSearchEngine(SearchEngine):
    def __init__(self) -> None:
        self.documents = ["Bela Tornir was born in Balnor."]

    def search(self, query: str, top_k: int = 3) -> list[str]:
        return self.documents[:top_k]

    def add_documents(self, documents: list[str]) -> None:
        self.documents += documents


class CustomRewardCalculator(StepSearchRewardCalculator):
    def compute_step_reward(self, retrieved_docs, golden_docs, history, episode_id, step):
        return 5.0


@pytest.fixture
def overrides(searching_policy: Path, world: Path) -> list[str]:
    """Settings of a run of one step that plays 16 episodes."""
    return [
        f"model.name={searching_policy}",
        f"search.knowledge_base={world / 'data' / 'knowledge_base'}",
        "training.max_steps=1",
        "training.batch_size=16",
        "training.value_warmup_steps=0",
        "logging.trajectories=16",
    ]


def episodes(run: Path) -> list[Mapping[str, Any]]:
    """What the run wrote about its episodes."""
    lines = (run / "logs" / "trajectories.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def steps(run: Path) -> list[Mapping[str, Any]]:
    return [step for episode in episodes(run) for step in episode["trajectory"]["steps"]]


def questions(world: Path) -> StepSearchDataset:
    return StepSearchDataset(world / "data" / "train_processed.json")


def test_the_readme_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its python blocks are one script; search, reward and data of its own are what training sees."""
    (tmp_path / "config").symlink_to(PROJECT / "config")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (PROJECT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), "README.md", "exec"), names)
    card = (names["best_model"] / "README.md").read_text(encoding="utf-8")
    assert "by PPO with the rewards of CustomRewardCalculator" in card
    assert "Searched with `CustomSearchEngine`, 1 document a query." in card
    (script,) = re.findall(
        r"^## From a script\n.*?^```python\n(.*?)^```",
        (PROJECT / "docs" / "extending.md").read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    exec(compile(script, "extending.md", "exec"), names)
    assert [episode.question.question for episode in names["episodes"]] == [names["custom_data"][0]["question"]]
    assert names["figures"].count == len(names["rewards"]) == 1

    run = tmp_path / "runs" / "custom"
    assert names["best_model"].samefile(run / "checkpoints" / "best_model")
    asked = {episode["trajectory"]["question"]["question"] for episode in episodes(run)}
    assert asked == {item["question"] for item in names["custom_data"]}
    found = {passage["text"] for step in steps(run) for passage in step["passages"]}
    assert found
    assert found <= set(names["engine"].documents)
    # One document a search, new or not, by the README's formula; tiny.yaml scales step rewards by 0.6.
    rewards = {round(step["total"], 9) for episode in episodes(run) for step in episode["reward"]["steps"]}
    assert rewards
    assert rewards <= {round(0.6 * (1 / 3 - 0.1), 9), round(0.6 * -0.1, 9)}


def test_a_custom_engine_answers_the_queries(overrides: list[str], world: Path, tmp_path: Path) -> None:
    config = stepsearch.load_config(CONFIG, overrides)
    engine = CustomSearchEngine()
    stepsearch.train(config, questions(world), output_dir=tmp_path, search_engine=engine)
    found = [passage["text"] for step in steps(tmp_path) for passage in step["passages"]]
    assert len(found) > 5
    assert set(found) == set(engine.documents)


def test_an_engine_in_the_dict_is_found_by_its_name(
    overrides: list[str], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "custom", lambda settings, knowledge_base: CustomSearchEngine())
    data = world / "data" / "train_processed.json"
    flags = ["--musique-path", str(data), "--output-dir", str(tmp_path), "--config", str(CONFIG)]
    assert main(["train", *flags, *overrides, "search.engine_type=custom"]) == 0
    assert {passage["text"] for step in steps(tmp_path) for passage in step["passages"]} == {
        "Bela Tornir was born in Balnor."
    }


def test_a_custom_reward_is_what_training_sees(overrides: list[str], world: Path, tmp_path: Path) -> None:
    config = stepsearch.load_config(CONFIG, overrides)
    calculator = CustomRewardCalculator(config.reward)
    stepsearch.train(config, questions(world), output_dir=tmp_path, reward_calculator=calculator)
    rewards = [step["total"] for episode in episodes(tmp_path) for step in episode["reward"]["steps"] or ()]
    assert len(rewards) > 5
    assert set(rewards) == {0.6 * 5.0}


def test_custom_data_is_what_is_asked(overrides: list[str], tmp_path: Path) -> None:
    custom_data = [
        {
            "question": f"Where was the author of book {number} born?",
            "answer": "Balnor",
            "subquestions": [{"sub_question": "Who wrote it?", "search_queries": [f"author of book {number}"]}],
        }
        for number in range(4)
    ]
    dataset = StepSearchDataset(custom_data, None)
    best = stepsearch.train(stepsearch.load_config(CONFIG, overrides), dataset, output_dir=tmp_path)
    asked = {episode["trajectory"]["question"]["question"] for episode in episodes(tmp_path)}
    assert asked == {item["question"] for item in custom_data}
    assert (best / "stepsearch.json").is_file()
