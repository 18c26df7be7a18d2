from pathlib import Path
from typing import Any

import pytest
import torch

from stepsearch.config import load_config
from stepsearch.errors import ConfigError, ModelError
from stepsearch.training.checkpoints import (
    check_fingerprint,
    check_unused,
    checkpoint_folders,
    fingerprint,
    load_last_checkpoint,
    load_reference,
    save_checkpoint,
    save_reference,
)
from stepsearch.types import Question

QUESTIONS = [Question("1", "who?", ("x",)), Question("2", "where?", ("y",))]


def state(step: int) -> dict[str, Any]:
    return {"step": step, "weights": {"w": torch.full((100,), float(step))}}


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, step, state(step), keep=2)


def test_the_last_one_is_loaded_and_the_older_ones_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, 5, 10, 123456)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-000010", "step-123456"]
    loaded = load_last_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 123456
    assert torch.equal(loaded["weights"]["w"], state(123456)["weights"]["w"])


def test_without_checkpoints_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert load_last_checkpoint(tmp_path) is None
    check_unused(tmp_path)


def damage(folder: Path, how: str) -> None:
    file = folder / "state.pt"
    if how == "cut short":
        file.write_bytes(file.read_bytes()[:500])
    elif how == "no state":
        file.unlink()
    elif how == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        file.write_bytes(b"\0" * file.stat().st_size)


@pytest.mark.parametrize("how", ["cut short", "no state", "no manifest", "zeros"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str) -> None:
    write(tmp_path, 5, 10)
    damage(tmp_path / "step-000010", how)
    loaded = load_last_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 5
    assert "step-000010 is damaged" in caplog.text
    damage(tmp_path / "step-000005", how)
    with pytest.raises(ModelError, match="every checkpoint"):
        load_last_checkpoint(tmp_path)


def test_what_a_kill_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (tmp_path / ".step-000010.writing").mkdir()
    (tmp_path / ".step-000010.writing" / "state.pt").write_bytes(b"half")
    loaded = load_last_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded["step"] == 5
    write(tmp_path, 10)
    assert not (tmp_path / ".step-000010.writing").exists()


def test_a_new_run_does_not_mix_with_an_older_one(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with pytest.raises(ConfigError, match="step-000005: go on with it by --resume"):
        check_unused(tmp_path)


def test_the_reference_is_kept_beside_them(tmp_path: Path) -> None:
    save_reference(tmp_path / "new", {"w": torch.ones(2)})
    assert load_reference(tmp_path / "new")["w"].tolist() == [1.0, 1.0]
    with pytest.raises(ModelError, match=r"reference\.pt"):
        load_reference(tmp_path)


def test_what_torch_says_of_a_damaged_reference_is_one_short_line(tmp_path: Path) -> None:
    # Of what is no tensor torch says in many lines how it could be loaded all the same.
    torch.save({"w": Path("x")}, tmp_path / "reference.pt")
    with pytest.raises(
        ModelError, match=r"reference\.pt cannot be read .*: start anew in another --output-dir$"
    ) as error:
        load_reference(tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("training.learning_rate=1e-3", "training.learning_rate=7e-07"),
        ("reward.gamma_key=0.5", "reward.gamma_key"),
        ("seed=1", "seed=0"),
    ],
)
def test_settings_that_change_what_is_computed_are_refused(override: str, key: str) -> None:
    saved, now = fingerprint(load_config(), QUESTIONS), fingerprint(load_config(None, [override]), QUESTIONS)
    with pytest.raises(ConfigError, match=key):
        check_fingerprint(saved, now)


def test_other_questions_are_refused() -> None:
    config = load_config()
    with pytest.raises(ConfigError, match="training questions=2 of hash"):
        check_fingerprint(fingerprint(config, QUESTIONS), fingerprint(config, QUESTIONS[:1]))


def test_settings_that_change_only_how_long_or_where_are_free() -> None:
    overrides = [
        "training.max_steps=9",
        "logging.tensorboard=false",
        "training.microbatch_tokens=100",
        "search.retries=0",
    ]
    check_fingerprint(fingerprint(load_config(), QUESTIONS), fingerprint(load_config(None, overrides), QUESTIONS))
