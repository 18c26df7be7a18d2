"""Questions out of anything that `datasets` loads: the hub, a saved dataset, a folder of its files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsearch.data.benchmark import Entry
from stepsearch.data.optional_packages import import_optional
from stepsearch.data.question_files import entries_of_records
from stepsearch.data.records import Record
from stepsearch.errors import DataError, one_line


@dataclass(frozen=True, slots=True)
class DatasetName:
    """Which dataset: `NAME[@CONFIG][:SPLIT]`, NAME a name on the hub or a folder; without a split, all of them."""

    name: str
    config: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, text: str) -> "DatasetName":
        """Return the parts of `NAME[@CONFIG][:SPLIT]`.

        Raises:
            DataError: it is a file.
        """
        if Path(text).is_file():
            raise DataError(f"--hf-dataset {text} is a file: name its folder, or read the file as it is")
        rest, _, split = text.partition(":") if not Path(text).exists() else (text, "", "")
        name, _, config = rest.partition("@")
        return cls(name, config or None, split or None)

    def __str__(self) -> str:
        config = f"@{self.config}" if self.config else ""
        return f"{self.name}{config}" + (f":{self.split}" if self.split else "")


def read_hub_dataset(dataset: DatasetName) -> dict[str, Iterator[Entry | None]]:
    """Return the records of every split that was asked for, read one by one.

    Rows may be of any format that a file of questions may have, or of the hub's columnar form of HotpotQA.

    Raises:
        DataError: `datasets` is not installed, the dataset cannot be loaded, or, while reading, a row is malformed.
    """
    library = import_optional("datasets", "--hf-dataset")
    splits = _load(library, dataset)
    return {split: entries_of_records(_records(rows, f"{dataset.name}:{split}")) for split, rows in splits.items()}


def _load(library: Any, dataset: DatasetName) -> dict[str, Iterable[Mapping[str, Any]]]:
    try:
        if (Path(dataset.name) / "dataset_dict.json").is_file() or (Path(dataset.name) / "state.json").is_file():
            loaded = library.load_from_disk(dataset.name)
        else:
            loaded = library.load_dataset(dataset.name, dataset.config)
    except Exception as error:
        # The library raises whatever its many parts raise.
        reason = one_line(error)
        raise DataError(
            f"the dataset {dataset} cannot be loaded ({reason}): name one of the hub that this machine can reach, or "
            "a folder that `datasets` saved or can load"
        ) from None
    splits = dict(loaded) if isinstance(loaded, dict) else {dataset.split or "train": loaded}
    if dataset.split is None:
        return splits
    if dataset.split not in splits:
        raise DataError(f"the dataset {dataset.name} has no split {dataset.split}: choose from {', '.join(splits)}")
    return {dataset.split: splits[dataset.split]}


def _records(rows: Iterable[Mapping[str, Any]], where: str) -> Iterator[Record]:
    number = 0
    for number, row in enumerate(rows, start=1):
        yield Record(_published(row), f"{where}, row {number}")
    if not number:
        raise DataError(f"{where} is empty: it holds no row")


def _published(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as its benchmark publishes it: the hub has HotpotQA's pairs as columns, and its `_id` as `id`."""
    values = dict(row)
    for key, columns in (("supporting_facts", ("title", "sent_id")), ("context", ("title", "sentences"))):
        if isinstance(values.get(key), dict) and set(columns) <= values[key].keys():
            values[key] = [list(pair) for pair in zip(*(values[key][column] for column in columns), strict=True)]
    if "supporting_facts" in values and "_id" not in values and "id" in values:
        values["_id"] = values.pop("id")
    return values
