from pathlib import Path

from stepsearch.cli.train import _opening_words
from stepsearch.training.run_folder import RunFolder


def test_resuming_says_what_it_goes_on_from(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path / "run")
    assert "no checkpoint" in _opening_words(folder)
    for step in (2, 10):
        (folder.checkpoints / f"step-{step:06d}").mkdir()
    assert _opening_words(folder) == f"going on from {folder.checkpoints / 'step-000010'}"
