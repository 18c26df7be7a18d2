"""Where the questions of each split come from: a folder of a benchmark's own files, or a dataset that is loaded."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from stepsearch.data.benchmark import Entry
from stepsearch.data.hub_datasets import DatasetName, read_hub_dataset
from stepsearch.data.readers import PUBLICATIONS, find_split_file, known_dataset, read_entries, split_file_names
from stepsearch.data.record_files import read_records
from stepsearch.errors import DataError

TRAIN, DEV, TEST = "train", "dev", "test"
SPLITS = (TRAIN, DEV, TEST)
FOR_TRAINING = (TRAIN, DEV)
# How datasets call their splits.
_SPLIT_OF = {TRAIN: TRAIN, DEV: DEV, "validation": DEV, "val": DEV, "valid": DEV, TEST: TEST}


@dataclass(frozen=True, slots=True)
class SplitSource:
    """The records of one split.

    Attributes:
        split: one of `SPLITS`.
        name: of the file or dataset, for people.
        read: yields the records one by one, None for one that its source calls unanswerable.
    """

    split: str
    name: str
    read: Callable[[], Iterator[Entry | None]]

    def called(self, dataset: str) -> "SplitSource":
        """Return the split with its questions under another name: a file in a format is not always of its dataset."""

        def read() -> Iterator[Entry | None]:
            for entry in self.read():
                yield entry and replace(entry, question=replace(entry.question, dataset=dataset))

        return replace(self, read=read)


def raw_sources(folder: Path, dataset: str, needed: Sequence[str] = ()) -> list[SplitSource]:
    """Return the splits of a benchmark whose files are in a folder.

    A test file counts where it has answers, as a generated world's has; those that are published have none, but for
    Bamboogle's.

    Args:
        folder: holds the published files.
        dataset: key of `READERS`.
        needed: splits that have to be there; of the others any will do.

    Raises:
        DataError: the dataset is unknown, or a file that is needed is missing; says what was looked for and where it
            is published.
    """
    files = {split: find_split_file(folder, known_dataset(dataset), split) for split in SPLITS}
    missing = [split for split in needed if files[split] is None]
    if missing or not any(files.values()):
        raise _missing(folder, dataset, missing)
    return [
        SplitSource(split, file.name, lambda file=file: read_entries(file, dataset))
        for split, file in files.items()
        if file is not None and (split != TEST or dataset == "bamboogle" or _has_answers(file))
    ]


def hub_sources(text: str) -> list[SplitSource]:
    """Return the splits of the dataset `NAME[@CONFIG][:SPLIT]`.

    Raises:
        DataError: the dataset cannot be loaded, or two of its splits are the same one of ours.
    """
    dataset = DatasetName.parse(text)
    sources: dict[str, SplitSource] = {}
    for name, entries in read_hub_dataset(dataset).items():
        split = _SPLIT_OF.get(name)
        if split is None or split in sources:
            raise DataError(
                f"the dataset {dataset} has a split {name}, which is none of {', '.join(_SPLIT_OF)} or a second one of "
                f"its kind: choose one with {dataset.name}:SPLIT"
            )
        sources[split] = SplitSource(split, f"{dataset.name}:{name}", lambda entries=entries: entries)
    return [sources[split] for split in SPLITS if split in sources]


def _missing(folder: Path, dataset: str, needed: list[str]) -> DataError:
    asked = PUBLICATIONS[dataset]
    splits, joint = (needed, " and ") if needed else (asked.splits, " or ")
    names = joint.join(split_file_names(dataset, split)[0] for split in splits)
    others = ", ".join(f"{p.title} {p.address}" for p in PUBLICATIONS.values() if p is not asked)
    return DataError(
        f"{names} not found in {folder}: {asked.title} is published at {asked.address} "
        f"(the other evaluation benchmarks: {others})"
    )


def _has_answers(path: Path) -> bool:
    """Return whether the first record has an answer: a published test file has none."""
    with closing(read_records(path)) as records:
        first = next(records).values
    return "answer" in first or "golden_answers" in first
