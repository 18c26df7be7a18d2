"""Where a run keeps its files."""

from pathlib import Path

import pytest

from stepsearch.errors import DataError
from stepsearch.training.run_folder import RunFolder


def test_promised_places(tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path / "run")
    assert run.best_model == tmp_path / "run" / "checkpoints" / "best_model"
    assert sorted(folder.name for folder in run.root.iterdir()) == ["checkpoints", "logs", "results"]


@pytest.mark.parametrize("part", ["checkpoints", "logs", "results"])
def test_a_part_named_as_the_folder_stands_for_its_run(tmp_path: Path, part: str) -> None:
    run = RunFolder.at(tmp_path / part, parts=("results",))
    assert run.root == tmp_path
    assert [folder.name for folder in tmp_path.iterdir()] == ["results"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made: "):
        RunFolder.at(tmp_path / "file")
