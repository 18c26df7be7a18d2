"""Flags and overrides, as promised."""

import subprocess
import sys
from pathlib import Path

import pytest

from stepsearch.cli.arguments import DATASETS
from stepsearch.cli.command_line import parse
from stepsearch.data import READERS

EVALUATE = ["evaluate", "--model-path", "m", "--musique-dir", "d", "--output-dir", "o"]
TRAIN = ["train", "--musique-path", "t.json", "--output-dir", "o"]


def test_promised_prepare_data() -> None:
    promised = "prepare-data --raw-musique-dir DIR --output-dir OUT --max-train-samples 7 --build-knowledge-base"
    args = parse(promised.split())
    assert (args.raw_musique_dir, args.output_dir) == (Path("DIR"), Path("OUT"))
    assert (args.max_train_samples, args.build_knowledge_base) == (7, True)


def test_promised_train() -> None:
    args = parse([*TRAIN, "--eval-musique-path", "e.json", "--config", "c.yaml", "--resume", "training.max_steps=2"])
    assert (args.musique_path, args.eval_musique_path, args.config) == (Path("t.json"), Path("e.json"), Path("c.yaml"))
    assert args.resume is True
    assert args.overrides == ["training.max_steps=2"]


def test_promised_evaluate_with_overrides_after_a_list() -> None:
    promised = ["--datasets", "hotpotqa", "2wiki", "musique", "bamboogle", "search.top_k=2", "--compare-baselines"]
    args = parse([*EVALUATE, *promised, "seed=3"])
    assert args.datasets == ["hotpotqa", "2wiki", "musique", "bamboogle"]
    assert args.compare_baselines is True
    assert args.overrides == ["search.top_k=2", "seed=3"]


def test_a_warm_start_has_one_source() -> None:
    start = ["warm-start", "--output-dir", "o", "warm_start.imitation.epochs=1"]
    assert parse([*start, "--demonstrations", "d.jsonl"]).demonstrations == Path("d.jsonl")
    assert parse([*start, "--musique-path", "q.json"]).musique_path == Path("q.json")
    for sources in ([], ["--demonstrations", "d.jsonl", "--musique-path", "q.json"]):
        with pytest.raises(SystemExit):
            parse([*start, *sources])


def test_report() -> None:
    args = parse(["report", "--results", "r", "--beside", "b", "--training-logs", "l", "--output", "o.html"])
    assert (args.results, args.beside, args.training_logs) == (Path("r"), Path("b"), Path("l"))
    assert args.output == Path("o.html")


def test_every_benchmark_that_is_read_can_be_named() -> None:
    assert set(DATASETS) == set(READERS)


def test_an_equals_sign_in_an_option_is_no_override() -> None:
    args = parse(["inference", "--model-path", "a=b", "--mode", "single", "--question", "x=1", "search.top_k=1"])
    assert (args.model_path, args.question) == ("a=b", "x=1")
    assert args.overrides == ["search.top_k=1"]
    assert parse(["inference", "--model-path", "m", "--question=y = 2"]).question == "y = 2"


def test_a_seed_flag_is_a_setting() -> None:
    assert parse(["quickstart", "--seed", "5"]).overrides == ["seed=5"]
    assert parse(["quickstart"]).output_dir == Path("runs/quickstart")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: command"),
        (["fly"], "invalid choice: 'fly'"),
        (["idnex", "--input", "a"], "there is no command idnex; did you mean index?"),
        (
            [*TRAIN, "--training.max_steps=3"],
            "--training.max_steps: a setting is given without dashes, as training.max_steps=VALUE",
        ),
        ([*TRAIN, "training.max_steps", "=", "3"], "a setting is given without spaces, as section.key=VALUE"),
        (TRAIN[:3], "required: --output-dir"),
        ([*TRAIN, "--bogus"], "unrecognized arguments: --bogus"),
        ([*TRAIN, "stray"], "unrecognized arguments: stray"),
        ([*TRAIN, "--resum"], "unrecognized arguments: --resum; did you mean --resume?"),
        (["train", "--musique-pth", "a", "--output-dir", "b"], "--musique-pth; did you mean --musique-path?"),
        (["train", "--output=b"], "unrecognized arguments: --output; did you mean --output-dir?"),
        ([*EVALUATE, "--datasets", "squad"], "invalid choice: 'squad'"),
        ([*EVALUATE, "--max-questions", "0"], "--max-questions: expected a whole number of at least 1, got '0'"),
        ([*TRAIN, "--num-processes", "0"], "--num-processes: expected a whole number of at least 1, got '0'"),
        ([*TRAIN, "--num-processes", "two"], "--num-processes: expected a whole number of at least 1, got 'two'"),
        (["compare", "--first-seed=-1"], "--first-seed: expected a whole number of at least 0, got '-1'"),
        (["plan", "--efficiency", "40"], "--efficiency: expected a number above 0 and at most 1, got '40'"),
        (["plan", "--memory-gib", "nan"], "--memory-gib: expected a number above 0, got 'nan'"),
        (["inference", "--model-path", "m", "--mode", "chat"], "invalid choice: 'chat'"),
        (["prepare-data", "--raw-musique-dir", "a", "--output-dir", "b", "seed=1"], "no settings to override: seed=1"),
    ],
)
def test_wrong_flags_exit_with_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(argv)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def run_python(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run lines after which `main` is there, in a process that has imported nothing else, and that ends well."""
    code = "\n".join(("import sys", "from stepsearch.cli.main import main", *lines))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result


def test_a_mistyped_setting_needs_no_torch() -> None:
    result = run_python(
        "assert main(['train', '--musique-path', 'x', '--output-dir', 'y', 'training.max_step=3']) == 2",
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)",
    )
    assert "did you mean training.max_steps?" in result.stderr


def test_searching_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / "fox.txt").write_text("A red fox.\n", encoding="utf-8")
    result = run_python(
        "sys.modules['fastapi'] = None",
        f"assert main(['index', '--input', '{tmp_path}/fox.txt', '--output', '{tmp_path}/kb']) == 0",
        f"assert main(['search', 'fox', '--index', '{tmp_path}/kb']) == 0",
    )
    assert "A red fox." in result.stdout


def test_help_needs_no_torch() -> None:
    result = run_python(
        "try:\n    main(['train', '--help'])",
        "except SystemExit as stop:\n    assert stop.code == 0",
        "assert not {'torch', 'transformers', 'pydantic', 'numpy'} & set(sys.modules)",
    )
    assert "--eval-musique-path FILE" in result.stdout
