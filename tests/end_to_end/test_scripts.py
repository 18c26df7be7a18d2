"""The four scripts with the promised flags, as subprocesses on the genuine samples."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stepsearch.evaluation.baselines import BASELINES

PROJECT = Path(__file__).parents[2]
TINY = str(PROJECT / "config" / "tiny.yaml")
SHORT_RUN = (
    "training.max_steps=2",
    "training.batch_size=4",
    "training.minibatch_size=4",
    "training.value_warmup_steps=1",
    "training.value_warmup_epochs=1",
    "training.threads=1",
    "evaluation.dev_questions=4",
    "evaluation.every_steps=2",
)
pytestmark = pytest.mark.slow


def script(name: str, *argv: object, typed: str = "") -> str:
    """Run a script as a user would; return what it prints."""
    result = subprocess.run(
        [sys.executable, str(PROJECT / "scripts" / f"{name}.py"), *map(str, argv)],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def prepared(benchmarks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    flags = ("--raw-musique-dir", benchmarks, "--output-dir", folder, "--max-train-samples", 40)
    output = script("prepare_data", *flags, "--build-knowledge-base")
    assert "train_processed.json: 40 questions" in output
    return folder


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of the tiny policy, after a warm start of a few updates, and what it printed."""
    run = tmp_path_factory.mktemp("run")
    train, dev = prepared / "train_processed.json", prepared / "dev_processed.json"
    phases = "warm_start.phases=[{kind: reading, updates: 2, tokens: 512}]"
    flags = ("--musique-path", train, "--output-dir", run / "checkpoints", "--eval-musique-path", dev, "--config", TINY)
    output = script("train", *flags, *SHORT_RUN, phases, "model.max_length=1024", "rollout.max_turn_tokens=24")
    return run, output


def test_prepared_data(prepared: Path) -> None:
    train = json.loads((prepared / "train_processed.json").read_text(encoding="utf-8"))
    dev = json.loads((prepared / "dev_processed.json").read_text(encoding="utf-8"))
    assert (len(train), len(dev)) == (40, 100)
    assert {"question", "answer", "subquestions"} <= train[0].keys()
    assert (prepared / "knowledge_base" / "bm25").is_dir()


def test_training_the_tiny_policy(trained: tuple[Path, str], prepared: Path) -> None:
    run, output = trained
    assert f"knowledge base {prepared / 'knowledge_base'} beside the data file (1,799 passages)" in output
    lines = (run / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]
    assert "eval/musique/em" in json.loads(lines[-1])
    assert (run / "logs" / "train.log").is_file()
    assert list((run / "logs" / "tensorboard").glob("events.*"))
    record = json.loads((run / "checkpoints" / "best_model" / "stepsearch.json").read_text(encoding="utf-8"))
    assert record["search"]["knowledge_base"] == str((prepared / "knowledge_base").resolve())
    assert record["search"]["engine_type"] == "bm25"


def test_training_any_causal_lm(prepared: Path, qwen_folder: Path, tmp_path: Path) -> None:
    budgets = ("rollout.max_turn_tokens=24", "rollout.max_observation_tokens=64", "rollout.max_passage_tokens=48")
    flags = ("--musique-path", prepared / "train_processed.json", "--output-dir", tmp_path)
    script("train", *flags, f"model.name={qwen_folder}", *SHORT_RUN, *budgets, "model.max_length=1536")
    assert (tmp_path / "checkpoints" / "best_model" / "model.safetensors").is_file()


def test_evaluating_on_all_four(trained: tuple[Path, str], benchmarks: Path, tmp_path: Path) -> None:
    datasets = ("hotpotqa", "2wiki", "musique", "bamboogle")
    flags = ("--model-path", trained[0] / "checkpoints" / "best_model", "--datasets", *datasets)
    out = tmp_path / "results"
    output = script(
        *("evaluate", *flags, "--musique-dir", benchmarks, "--output-dir", out, "--compare-baselines"),
        *("--max-questions", 5, "rollout.max_turn_tokens=16", "reward.max_search_steps=1"),
    )
    assert "Qwen2.5-3B instruct, published" in output
    summary = json.loads((out / "evaluation_summary.json").read_text(encoding="utf-8"))
    assert list(summary["datasets"]) == list(datasets)
    for name in datasets:
        result = summary["datasets"][name]
        assert 0 <= result["em"] <= result["f1"] <= 1
        assert result["count"] == 5
        counts = {method: found["figures"]["em"]["count"] for method, found in result["methods"].items()}
        assert counts == dict.fromkeys(BASELINES, 5)
        assert (out / f"predictions_{name}.ircot.jsonl").is_file()
        predictions = (out / f"predictions_{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(predictions) == 5
        assert {"id", "prediction", "em", "f1", "trajectory"} <= json.loads(predictions[0]).keys()


def test_asking_one_question(trained: tuple[Path, str]) -> None:
    model = trained[0] / "checkpoints" / "best_model"
    output = script("inference", "--model-path", model, "--mode", "single", "--question", "Who is Robert Peel?")
    assert "search: bm25, knowledge base" in output
    assert "the episode ended" in output or "answer" in output


def test_an_interactive_session_goes_on_after_an_error(trained: tuple[Path, str]) -> None:
    model = trained[0] / "checkpoints" / "best_model"
    typed = f"Who is Peel?\n{'long ' * 1000}\nWho else?\nexit\n"
    output = script("inference", "--model-path", model, "--mode", "interactive", typed=typed)
    assert output.count("question> ") == 4
    assert "error: question 'question 2'" in output
