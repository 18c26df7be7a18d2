"""`stepsearch evaluate` and `compare-results` as a user runs them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_server import ChatServer

from stepsearch.cli.main import main
from stepsearch.evaluation.baselines import BASELINES

SMALL = (
    *("rollout.max_turn_tokens=8", "rollout.max_observation_tokens=48", "rollout.max_passage_tokens=40"),
    *("model.max_length=1024", "training.threads=1", "reward.max_search_steps=2"),
)
Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(world: Path, tmp_path: Path) -> Evaluate:
    """Evaluate on the generated world, into `out`."""

    def evaluate(model: object, *more: object) -> int:
        flags = ("--musique-dir", world / "raw", "--output-dir", tmp_path / "out")
        return main([str(word) for word in ("evaluate", "--model-path", model, *flags, *more)])

    return evaluate


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "results" / "evaluation_summary.json").read_text(encoding="utf-8"))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_model_with_baselines_and_another_model(
    evaluate: Evaluate, qwen_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--compare-baselines", "--compare-model", "ceiling=scripted:reference", "--samples", 2)
    assert evaluate(qwen_folder, *flags, "--temperature", 1, "--max-questions", 6, *SMALL) == 0
    output = capsys.readouterr().out
    assert "ΔEM" in output
    assert "Qwen2.5-3B instruct, published" in output
    results = tmp_path / "out" / "results"
    summary = summary_of(tmp_path / "out")
    assert (summary["samples"], summary["config"]["evaluation"]["temperature"]) == (2, 1.0)
    musique = summary["datasets"]["musique"]
    assert {"em", "f1", "count", "em_interval", "em_by_hops", "golden_recall", "stop_reasons", "search"} <= set(musique)
    assert (musique["count"], musique["errors"], len(musique["per_seed"])) == (6, 0, 2)
    assert musique["figures"]["em"]["value"] == musique["em"] == musique["figures"]["avg@2"]["value"]
    assert musique["figures"]["pass@2"]["value"] >= musique["em"]
    assert musique["figures"]["sampled_tokens"]["count"] == 6
    assert set(musique["by_hops"]) == set(musique["em_by_hops"])
    assert list(musique["methods"]) == [*BASELINES, "ceiling"]
    assert musique["methods"]["direct"]["figures"]["em"]["count"] == 6
    ceiling = musique["methods"]["ceiling"]
    # A random model knows nothing, so that the whole of the ceiling is the difference.
    assert ceiling["difference"]["em"] == ceiling["figures"]["em"]
    assert ceiling["figures"]["em"]["value"] > 0.5
    assert len(ceiling["recall_by_step"]) == 2
    predictions = lines_of(results / musique["predictions"])
    assert [(line["id"], line["sample"]) for line in predictions[:7:6]] == [(predictions[0]["id"], s) for s in (0, 1)]
    assert len(lines_of(results / ceiling["predictions"])) == 12
    assert len(list((results / "plots").glob("*.png"))) == 3
    assert "</html>" in (results / "report.html").read_text(encoding="utf-8")
    assert {folder.name for folder in (results / "tensorboard").iterdir()} == {"model", *musique["methods"]}
    page = (results / "evaluation.md").read_text(encoding="utf-8")
    assert "| EM |" in page
    assert "## Methods on musique" in page
    assert "## Beside published numbers" in page


def test_going_on_where_it_was_killed(evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("scripted:reference") == 0
    results = tmp_path / "out" / "results"
    path, whole = results / "predictions_musique.jsonl", summary_of(tmp_path / "out")
    text = path.read_text(encoding="utf-8")
    kept = text.splitlines(keepends=True)[:5]
    path.write_text("".join(kept) + '{"id": "2hop', encoding="utf-8")
    (results / "evaluation_summary.json").unlink()
    capsys.readouterr()
    assert evaluate("scripted:reference", "--resume") == 0
    assert "musique: going on after 5 of 12" in capsys.readouterr().out
    assert [line["id"] for line in lines_of(path)] == [json.loads(line)["id"] for line in text.splitlines()]
    again = summary_of(tmp_path / "out")
    assert again["datasets"]["musique"]["em_by_hops"] == whole["datasets"]["musique"]["em_by_hops"]
    assert again["datasets"]["musique"]["figures"]["em"] == whole["datasets"]["musique"]["figures"]["em"]


def test_what_it_will_not_mix(
    evaluate: Evaluate, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("scripted:no-search") == 0
    for more, message in (
        ((), "holds an evaluation (evaluation.json): go on with it by --resume"),
        (("--resume", "--seed", 3), "(seed=0, not 3)"),
        (("--resume", "search.top_k=2"), "(search.top_k=3, not 2)"),
        (("--resume", "--max-questions", 2), "(max_questions=None, not 2)"),
        (("--resume", "--temperature", 1), "(evaluation.temperature=0.0, not 1.0)"),
    ):
        capsys.readouterr()
        assert evaluate("scripted:no-search", *more) == 2
        assert message in capsys.readouterr().err
    assert evaluate("scripted:reference", "--resume") == 2
    assert "(model.name=scripted:no-search, not scripted:reference)" in capsys.readouterr().err
    assert evaluate("scripted:no-search", "--resume", "--compare-model", "other=scripted:reference") == 0
    assert evaluate("scripted:no-search", "--resume", "--compare-model", "other=scripted:no-search") == 2
    assert "evaluation.other.json belongs to a run with other settings (model.name=" in capsys.readouterr().err
    (tmp_path / "changed").mkdir()
    dev = next((world / "raw").glob("*dev*"))
    text = dev.read_text(encoding="utf-8")
    (tmp_path / "changed" / dev.name).write_text("".join(text.splitlines(keepends=True)[1:]), encoding="utf-8")
    flags = ["--musique-dir", str(tmp_path / "changed"), "--output-dir", str(tmp_path / "out"), "--resume"]
    assert main(["evaluate", "--model-path", "scripted:no-search", *flags]) == 2
    assert "(questions.musique=" in capsys.readouterr().err
    (tmp_path / "out" / "results" / "evaluation.json").unlink()
    assert evaluate("scripted:no-search", "--resume") == 2
    assert "without its settings (evaluation.json)" in capsys.readouterr().err


def test_questions_of_ones_own(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The processed format, with the knowledge base beside it, under the name that the questions have; gone on with."""
    data, rest = world / "data", ["--output-dir", str(tmp_path / "out"), "--max-questions", "6"]
    argv = ["evaluate", "--model-path", "scripted:reference", "--data", str(data / "dev_processed.json"), *rest]
    assert main(argv) == 0
    assert f"knowledge base {data / 'knowledge_base'} beside the data file" in " ".join(capsys.readouterr().out.split())
    measured = summary_of(tmp_path / "out")["datasets"]["musique"]
    assert (measured["count"], measured["predictions"]) == (6, "predictions_musique.jsonl")
    assert measured["file"] == str(data / "dev_processed.json")
    # Golden documents and hops are the questions' own, and the sub-questions' queries find them.
    assert measured["golden_recall_count"] == sum(measured["count_by_hops"].values()) == 6
    assert measured["golden_recall"] > 0.5
    assert main([*argv, "--resume"]) == 0
    assert main([*argv, "--resume", "--knowledge-base", str(data / "knowledge_base")]) == 0
    capsys.readouterr()
    other = [*argv[:4], str(data / "train_processed.json"), *rest, "--resume"]
    assert main(other) == 2
    assert "(questions.musique=" in capsys.readouterr().err
    assert main(["compare-results", str(tmp_path / "out"), str(tmp_path / "out")]) == 0


def test_several_files_and_a_benchmark_with_one_corpus(
    world: Path, real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "mine.jsonl"
    bare.write_text('{"id": "1", "question": "Who?", "golden_answers": ["yes"]}\n', encoding="utf-8")
    hotpot = real_data / "hotpot_dev_distractor_v1.sample100.json"
    flags = ["--output-dir", str(tmp_path / "out"), "--max-questions", "2", "--musique-dir", str(world / "raw")]
    argv = ["evaluate", "--model-path", "scripted:no-search", *flags, "--data", str(bare)]
    assert main([*argv, str(hotpot)]) == 0
    datasets = summary_of(tmp_path / "out")["datasets"]
    assert {name: of["count"] for name, of in datasets.items()} == {"musique": 2, "mine": 1, "hotpotqa": 2}
    assert datasets["mine"]["em"] == 1
    results = tmp_path / "out" / "results"
    assert len(lines_of(results / "predictions_mine.jsonl")) == 1
    assert "| mine |" in (results / "evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "there is nothing to evaluate on: add --data FILE"),
        (("--datasets", "musique"), "--datasets needs the folder that holds their files: add --musique-dir DIR"),
        (("--data", "train_processed.json", "dev_processed.json"), "are both called musique"),
        (("--data", "none.json"), "none.json"),
    ],
)
def test_questions_that_cannot_be_evaluated_on(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(world / "data")
    argv = ["evaluate", "--model-path", "scripted:no-search", "--output-dir", str(tmp_path / "out"), *flags]
    assert main(argv) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--samples", 3), "--samples 3 at evaluation.temperature=0"),
        (("--compare-baselines",), "--compare-baselines needs a model"),
        (("--compare-model", "x"), "--compare-model x: write NAME=DIR"),
        (("--compare-model", "a/b=x"), "write NAME=DIR"),
        (("--compare-model", "direct=x"), "the name direct is taken"),
        (("--compare-model", "other=/no/such/model"), "/no/such/model"),
    ],
)
def test_what_cannot_be_evaluated(
    evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[object, ...], message: str
) -> None:
    assert evaluate("scripted:no-search", *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_judge_is_asked_about_every_answer_once(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ChatServer(lambda body: '{"correct": true}')
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    try:
        assert evaluate("scripted:no-search") == 0
        capsys.readouterr()
        assert summary_of(tmp_path / "out")["datasets"]["musique"]["figures"]["judged"]["count"] == 0
        for spent in (r"judge: 12 replies paid, with [1-9][\d,]* tokens of prompts", "judge: 0 replies paid"):
            assert evaluate("scripted:no-search", "--judge", "test", "--resume") == 0
            assert re.search(spent, capsys.readouterr().out)
            judged = summary_of(tmp_path / "out")["datasets"]["musique"]["figures"]["judged"]
            assert (judged["value"], judged["count"], len(server.requests)) == (1.0, 12, 12)
    finally:
        server.stop()


def test_comparing_two_results(evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("scripted:no-search", "--compare-model", "ceiling=scripted:reference", "--max-questions", 8) == 0
    (tmp_path / "out").rename(tmp_path / "a")
    assert evaluate("scripted:reference", "reward.max_search_steps=4") == 0
    capsys.readouterr()
    output = tmp_path / "difference.json"
    argv = ["compare-results", str(tmp_path / "a"), str(tmp_path / "out"), "--output", str(output)]
    assert main(argv) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "8 questions that both have; left out: 0 that only A has, 4 that only B has" in printed
    assert "note: A and B differ in reward.max_search_steps: 5, 4" in printed
    musique = json.loads(output.read_text(encoding="utf-8"))["results"]["musique"]
    assert (musique["count"], musique["only_in_a"], musique["only_in_b"]) == (8, 0, 4)
    gained = musique["b"]["figures"]["em"]["value"]
    assert musique["difference"]["em"]["value"] == gained > 0.5
    # All differing questions are right in B: 2 of 2^n ways to swap them are as extreme.
    assert musique["em_p_value"] == pytest.approx(2 / 2 ** (8 * gained))
    assert main(["compare-results", str(tmp_path), str(tmp_path / "out")]) == 2
    assert "has no predictions" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_kill_loses_no_more_than_a_batch(world: Path, qwen_folder: Path, tmp_path: Path) -> None:
    flags = ["--model-path", qwen_folder, "--musique-dir", world / "raw", "--output-dir", tmp_path / "out"]
    budgets = ["rollout.max_turn_tokens=24", *SMALL[1:]]
    command = [sys.executable, "-m", "stepsearch.cli.main", "evaluate", *flags, *budgets, "evaluation.batch_size=2"]
    path = tmp_path / "out" / "results" / "predictions_musique.jsonl"
    with subprocess.Popen([str(word) for word in command], env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 120
        while not (path.is_file() and path.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = path.read_text(encoding="utf-8").splitlines()
    assert before
    assert main([*map(str, command[3:]), "--resume"]) == 0
    after = path.read_text(encoding="utf-8").splitlines()
    assert len(after) == summary_of(tmp_path / "out")["datasets"]["musique"]["count"] == 12
    assert [json.loads(line)["id"] for line in after][:2] == [json.loads(line)["id"] for line in before[:2]]
