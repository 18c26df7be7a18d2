"""Where a run keeps its files."""

import subprocess
import sys
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


def test_a_folder_is_one_training_s_until_that_ends_or_dies(tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path / "run")
    code = (
        "import sys; from stepsearch.training.run_folder import RunFolder\n"
        "with RunFolder.at(sys.argv[1]).held():\n    print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(run.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=r"another process trains in .*run: wait until it is done"), run.held():
            pass
        other.kill()
        other.wait()
        with run.held():
            pass
    with run.held():
        pass
