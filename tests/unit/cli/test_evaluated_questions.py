"""What a user's own questions are called in an evaluation."""

from pathlib import Path

import pytest

from stepsearch.cli.evaluated_questions import dataset_name
from stepsearch.errors import DataError
from stepsearch.types import Question


def of(*datasets: str) -> list[Question]:
    return [Question(str(index), "Who?", ("me",), dataset=name) for index, name in enumerate(datasets)]


@pytest.mark.parametrize(
    ("file", "datasets", "name"),
    [
        ("dev_processed.json", ["nq", "nq"], "nq"),
        ("dev_processed.json", ["nq", "musique"], "dev_processed"),
        ("dev_processed.json", ["nq", ""], "dev_processed"),
        ("my-questions.jsonl.gz", ["", ""], "my-questions"),
    ],
)
def test_named_as_all_questions_say_else_as_the_file(file: str, datasets: list[str], name: str) -> None:
    assert dataset_name(Path("folder") / file, of(*datasets)) == name


@pytest.mark.parametrize(("file", "dataset"), [("q.json", "nq.dev"), ("q.json", "a/b"), ("my questions.json", "")])
def test_a_name_that_no_file_can_have(file: str, dataset: str) -> None:
    with pytest.raises(DataError, match="take letters, digits, '_' and '-'"):
        dataset_name(Path(file), of(dataset))
