"""The quickstart in small: every stage, its files, and going on after an interruption."""

import json
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from small_settings import SMALL

from stepsearch.cli.main import main
from stepsearch.models.model_folder import load_hf_tokenizer
from stepsearch.training.steppo_trainer import StePPOTrainer


def quickstart(folder: Path, *more: str) -> int:
    return main(["quickstart", "--output-dir", str(folder), "--seed", "3", *SMALL, *more])


def test_all_stages_and_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quickstart(tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    records = (tmp_path / "raw" / "musique_ans_v1.0_test.jsonl").read_text(encoding="utf-8").splitlines()
    test_ids = [json.loads(record)["id"] for record in records]
    assert summary["seed"] == 3
    assert summary["seconds"] > 0
    assert summary["cpu_seconds"] > 0
    assert summary["peak_memory_mb"] > 100
    for when in ("before", "after", "before_sampled", "after_sampled"):
        assert {"em", "f1", "em_by_hops", "golden_recall", "searches_per_question"} <= summary[when].keys()
        assert summary[when]["count"] == 6
        lines = (tmp_path / "results" / f"predictions_{when}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] == test_ids
        # Ids name the hop count: no model ever sees one.
        tokenizer = load_hf_tokenizer(str(tmp_path / "checkpoints" / "best_model"))
        for episode in (json.loads(line)["trajectory"] for line in lines):
            context = tokenizer.decode([*episode["prompt_ids"], *episode["response_ids"]])
            assert episode["question"]["question"] in context
            assert episode["question"]["id"] not in context
    assert len(summary["stages"]) == 6
    metrics = (tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert "eval/generated/em" in json.loads(metrics[-1])
    assert (tmp_path / "checkpoints" / "best_model" / "model.safetensors").is_file()
    check_card(tmp_path / "checkpoints" / "best_model", "StePPO", summary["after"])
    check_card(tmp_path / "checkpoints" / "warm_start", "warm start", summary["before"])
    output = capsys.readouterr().out
    assert "[6/6] evaluate after" in output
    for label in ("EM sampled at T = 1", "seconds of training", "CPU-seconds of training"):
        assert re.search(rf"│ {label} +│? *[\d.]+ +│? *[\d.]+", output)
    assert "stepsearch inference --model-path" in output
    # So small a run is told what it lacks.
    assert {summary[when]["em"] for when in ("before", "after")} == {0.0}
    last = output.splitlines()[-1]
    assert last.startswith("the warm start learned nothing to reward (EM before 0, golden recall 0.0")
    assert "give it more updates (warm_start.phases)" in last


def check_card(model: Path, method: str, figures: dict[str, float]) -> None:
    """Check that the card beside a model says what the run knows."""
    card = ModelCard.load(model / "README.md")
    assert f"# the tiny policy, {method}" in card.text
    tested = [result for result in card.data.eval_results if result.dataset_split == "test"]
    assert {result.metric_type: result.metric_value for result in tested} == {
        "exact_match": round(figures["em"], 4),
        "f1": round(figures["f1"], 4),
    }
    assert "| training | train_processed.json |" in card.text
    assert re.search(r"passages with the fingerprint `[0-9a-f]{32}`, which has (\d+) of the \1 golden", card.text)
    assert "stepsearch quickstart --output-dir" in card.text
    assert "nothing of the real one" in card.text


def test_an_interrupted_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = StePPOTrainer.train_step

    def interrupted(trainer: StePPOTrainer, log: object) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setattr(StePPOTrainer, "train_step", interrupted)
    assert quickstart(tmp_path) == 130
    assert "continue with --resume" in capsys.readouterr().err
    monkeypatch.setattr(StePPOTrainer, "train_step", take_step)
    assert quickstart(tmp_path, "--resume") == 0
    output = capsys.readouterr().out
    assert "[3/6] warm start" not in output
    assert "[5/6] training" in output
    assert len(json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["stages"]) == 6


def test_a_folder_of_another_run_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints" / "step-000002").mkdir(parents=True)
    assert quickstart(tmp_path) == 2
    assert "step-000002" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quickstart(tmp_path) == 0
    table = capsys.readouterr().out.partition("Questions about entities")[2]
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert quickstart(tmp_path) == 2
    assert "holds an earlier quickstart: go on with it, or see its results" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert quickstart(tmp_path, "--resume") == 0
    assert capsys.readouterr().out.partition("Questions about entities")[2].splitlines()[:8] == table.splitlines()[:8]
