"""`stepsearch warm-start` on any model: from demonstrations to a folder that `train` takes."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stepsearch.cli.main import main
from stepsearch.models import StepSearchModel

SMALL = [
    "model.max_length=900",
    "rollout.max_turn_tokens=120",
    "rollout.max_observation_tokens=120",
    "rollout.max_passage_tokens=110",
    "logging.tensorboard=false",
    "training.threads=1",
]
QUICK = [
    "warm_start.imitation.epochs=1",
    "warm_start.imitation.batch_size=4",
    "warm_start.imitation.learning_rate=1e-3",
]


@pytest.fixture
def demonstrations(tmp_path: Path) -> Path:
    path = tmp_path / "shown.jsonl"
    text = "<search>red leader</search>\n<information>Doc 1 Kim leads Red.</information>\n<answer>Kim</answer>"
    lines = [{"question": f"who leads red number {number}", "text": text} for number in range(8)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def remembering(folder: Path, model: Path, settings: Mapping[str, Any]) -> Path:
    """Return a copy of a model's folder whose `stepsearch.json` holds these settings."""
    copied = folder / "remembers"
    shutil.copytree(model, copied)
    (copied / "stepsearch.json").write_text(json.dumps(settings), encoding="utf-8")
    return copied


@pytest.fixture
def asked(demonstrations: Path, qwen_folder: Path, tmp_path: Path) -> list[str]:
    """A warm start on the user's demonstrations, into the folder `start`."""
    flags = ["--demonstrations", str(demonstrations), "--output-dir", str(tmp_path / "start")]
    return ["warm-start", *flags, f"model.name={qwen_folder}", *SMALL, *QUICK]


def test_a_model_learns_from_a_users_file_and_is_trained_on(
    asked: list[str], world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "start"
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "8 demonstrations, 1.0 searches each, " in said
    assert (
        f"next: stepsearch train --musique-path FILE --output-dir DIR model.name={out}/checkpoints/best_model" in said
    )
    lines = [json.loads(line) for line in (out / "logs" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert lines[2]["imitation/loss"] < lines[1]["imitation/loss"]
    before, after = lines[1] | lines[0], lines[2]
    shown = ", ".join(
        f"{name.rpartition('/')[2]} {before[name]:.3f} to {after[name]:.3f}"
        for name in ("imitation/loss", "policy/entropy")
    )
    assert f"2 of 2 updates: {shown}; logs in" in said
    record = StepSearchModel.load(out / "checkpoints" / "best_model").record
    assert (record["prompt"], record["model"]) == ("instructions", {"max_length": 900})

    data = world / "data" / "train_processed.json"
    train = ["train", "--musique-path", str(data), "--output-dir", str(tmp_path / "run")]
    settings = [f"model.name={out}/checkpoints/best_model", "training.batch_size=4", "training.max_steps=1"]
    assert main([*train, *settings, *SMALL, "rollout.max_turn_tokens=40"]) == 0
    # Neither the model nor its folder is written over.
    assert main(asked) == 2
    assert "name another --output-dir" in capsys.readouterr().err


def test_scripted_episodes_of_the_users_questions_are_shown_by_adapters(
    qwen_folder: Path, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "start"
    data = world / "data" / "train_processed.json"
    # Engine and corpus that the model remembers are not those of these questions.
    search = {"engine_type": "bm25", "knowledge_base": "/moved/away", "top_k": 1}
    model = remembering(tmp_path, qwen_folder, {"search": search})
    asked = ["warm-start", "--musique-path", str(data), "--output-dir", str(out), f"model.name={model}"]
    assert main([*asked, *SMALL, *QUICK, "model.max_length=4000", "lora.rank=2"]) == 0
    said = capsys.readouterr().out
    assert "search: bm25, knowledge base" in said
    # Questions of two, three and four hops, a search for each, if its reference query finds the answer.
    count, searches = re.search(r"(\d+) demonstrations, (\S+) searches each", said).groups()
    assert 30 < int(count) <= 40
    assert 2.5 < float(searches) < 3.5
    assert (out / "checkpoints" / "best_model" / "adapter").is_dir()
    assert StepSearchModel.load(out / "checkpoints" / "best_model").record["search"]["top_k"] == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "shown.jsonl, line 2"),
        ('{"question": "who", "text": "Kim"}', "shown.jsonl, line 2: turn 1 does nothing"),
        (
            '{"question": "who", "text": "<think><|endoftext|></think><answer>Kim</answer>"}',
            "shown.jsonl, line 2: a turn writes a token that ends a sequence ('<think><|endoftext|>'): leave it out",
        ),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_left_behind(
    line: str, problem: str, demonstrations: Path, asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = demonstrations.read_text(encoding="utf-8").splitlines()
    demonstrations.write_text("\n".join([lines[0], line, *lines[1:]]), encoding="utf-8")
    assert main(asked) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert problem in error
    assert not (tmp_path / "start").exists()


def test_too_short_a_context_is_named_with_the_length_that_is_needed(
    demonstrations: Path, qwen_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "start"
    flags = ["--demonstrations", str(demonstrations), "--output-dir", str(out), f"model.name={qwen_folder}"]
    asked = ["warm-start", *flags, *SMALL, *QUICK]
    assert main([*asked, "model.max_length=100"]) == 2
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert "model.max_length=100 is too short for every demonstration" in error
    assert not out.exists()
    needed = re.search(r"raise it to (\d+)", error).group(1)
    assert main([*asked, f"model.max_length={needed}"]) == 0
    assert "left out" not in capsys.readouterr().out
    assert main([*asked, f"model.max_length={int(needed) - 1}"]) == 2


def test_only_demonstrations_that_are_kept_are_counted(
    asked: list[str], demonstrations: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = demonstrations.read_text(encoding="utf-8").splitlines()[:2]
    long = json.dumps({"question": "who", "text": f"<think>{'red ' * 400}</think><answer>Kim</answer>"})
    demonstrations.write_text("\n".join([kept[0], long, kept[1]]), encoding="utf-8")
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "2 demonstrations, 1.0 searches each, " in said
    assert "left out, as longer than model.max_length=900: 1; the longest has " in said


def test_what_the_model_remembers_holds_unless_the_user_says_otherwise(
    demonstrations: Path, qwen_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, budgets = tmp_path / "start", {"max_observation_tokens": 77, "max_passage_tokens": 33}
    model = remembering(tmp_path, qwen_folder, {"model": {"max_length": 100}, "rollout": budgets})
    flags = ["--demonstrations", str(demonstrations), "--output-dir", str(out), f"model.name={model}"]
    asked = ["warm-start", *flags, *QUICK, "logging.tensorboard=false", "training.threads=1"]
    assert main(asked) == 2
    assert "model.max_length=100 is too short for every demonstration" in capsys.readouterr().err
    assert main([*asked, "model.max_length=900", "rollout.max_passage_tokens=44"]) == 0
    record = StepSearchModel.load(out / "checkpoints" / "best_model").record
    assert record["model"] == {"max_length": 900}
    assert (record["rollout"]["max_observation_tokens"], record["rollout"]["max_passage_tokens"]) == (77, 44)


def test_the_tiny_policy_has_a_start_of_its_own(
    demonstrations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["warm-start", "--demonstrations", str(demonstrations), "--output-dir", str(tmp_path / "start")]
    assert main([*asked, "model.name=tiny"]) == 2
    assert "warm_start.phases" in capsys.readouterr().err
    assert not (tmp_path / "start").exists()
