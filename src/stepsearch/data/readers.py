"""The benchmarks by name: how each is read, what its file is called, and where it is published."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepsearch.data.bamboogle import read_bamboogle
from stepsearch.data.benchmark import Benchmark, Entry, EntryParser, or_bare, parse_entries
from stepsearch.data.hotpotqa import hotpotqa_entry, read_hotpotqa
from stepsearch.data.musique import DEV_FILE, TEST_FILE, TRAIN_FILE, musique_entry, read_musique
from stepsearch.data.record_files import read_records
from stepsearch.data.two_wiki import read_two_wiki, two_wiki_entry
from stepsearch.errors import DataError

Reader = Callable[[Path], Benchmark]

READERS: dict[str, Reader] = {
    "hotpotqa": read_hotpotqa,
    "2wiki": read_two_wiki,
    "musique": read_musique,
    "bamboogle": read_bamboogle,
}


# Those whose records can be read one by one.
_PARSERS: dict[str, EntryParser] = {"hotpotqa": hotpotqa_entry, "2wiki": two_wiki_entry, "musique": musique_entry}


@dataclass(frozen=True, slots=True)
class Publication:
    """Where a benchmark comes from, and its files' names there, the preferred first.

    `file_names` are those of the evaluation file; `splits` has those of every published file by its split's name.
    """

    title: str
    address: str
    file_names: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]


_HOTPOTQA_DEV = ("hotpot_dev_distractor_v1.json", "hotpot_dev_fullwiki_v1.json")
_TWO_WIKI_DEV = ("2wikimultihop_dev.json", "2wiki*/dev.json", "2wiki*/dev.jsonl")
_TWO_WIKI_TRAIN = ("2wikimultihop_train.json", "2wiki*/train.json", "2wiki*/train.jsonl")
_BAMBOOGLE_TEST = ("bamboogle_test.jsonl", "bamboogle.csv")

PUBLICATIONS: dict[str, Publication] = {
    "hotpotqa": Publication(
        "HotpotQA",
        "https://hotpotqa.github.io",
        _HOTPOTQA_DEV,
        {"train": ("hotpot_train_v1.1.json",), "dev": _HOTPOTQA_DEV},
    ),
    "2wiki": Publication(
        "2WikiMultiHopQA",
        "https://github.com/Alab-NII/2wikimultihop",
        _TWO_WIKI_DEV,
        {"train": _TWO_WIKI_TRAIN, "dev": _TWO_WIKI_DEV},
    ),
    "musique": Publication(
        "MuSiQue",
        "https://github.com/StonyBrookNLP/musique",
        (DEV_FILE,),
        {"train": (TRAIN_FILE,), "dev": (DEV_FILE,), "test": (TEST_FILE,)},
    ),
    "bamboogle": Publication(
        "Bamboogle", "https://github.com/ofirpress/self-ask", _BAMBOOGLE_TEST, {"test": _BAMBOOGLE_TEST}
    ),
}


def read_benchmark(path: Path, dataset: str) -> Benchmark:
    """Return the questions and paragraphs of a benchmark's file.

    Args:
        path: the file in its published format.
        dataset: key of `READERS`.

    Raises:
        DataError: the dataset is unknown, or the file is missing, malformed or empty.
    """
    return READERS[known_dataset(dataset)](path)


def read_entries(path: Path, dataset: str) -> Iterator[Entry | None]:
    """Yield the records of a benchmark's file one by one, None for one that its source calls unanswerable.

    Raises:
        DataError: the dataset is unknown, or the file is missing, malformed or empty.
    """
    parse = _PARSERS.get(known_dataset(dataset))
    if parse is None:
        return iter([Entry(question) for question in read_benchmark(path, dataset).questions])
    return parse_entries(read_records(path), or_bare(parse, dataset))


def find_split_file(folder: Path, dataset: str, split: str) -> Path | None:
    """Return the file of a dataset's split, under a published name or as `<dataset>/<split>.json[l]`; None without one.

    Raises:
        DataError: the dataset is unknown.
    """
    return _find(folder, split_file_names(dataset, split))


def split_file_names(dataset: str, split: str) -> list[str]:
    """Return the names that a split's file may have in a folder.

    Raises:
        DataError: the dataset is unknown.
    """
    published = PUBLICATIONS[known_dataset(dataset)].splits.get(split, ())
    return [*published, *(f"{dataset}/{split}{ending}" for ending in (".json", ".jsonl"))]


def find_benchmark_file(folder: Path, dataset: str) -> Path:
    """Return the evaluation file of a dataset: under a published name, as `<dataset>.json[l]` or in `<dataset>/`.

    Each may be packed with gzip, its name then ending in `.gz`.

    Raises:
        DataError: the dataset is unknown or nothing of it is in the folder; says what was looked for and where the
            benchmark is published.
    """
    publication = PUBLICATIONS[known_dataset(dataset)]
    patterns = (*publication.file_names, *_plain_names(dataset))
    found = _find(folder, patterns)
    if found is None:
        reason = "" if folder.is_dir() else ", which is no folder"
        raise DataError(
            f"no {publication.title} file in {folder}{reason}: looked for {', '.join(patterns)}; "
            f"it is published at {publication.address}"
        )
    return found


def known_dataset(dataset: str) -> str:
    """Return `dataset` if there is a reader for it.

    Raises:
        DataError: there is none; names those that there are.
    """
    if dataset not in READERS:
        raise DataError(f"unknown dataset {dataset}: choose from {', '.join(READERS)}")
    return dataset


def _plain_names(dataset: str) -> list[str]:
    stems = (dataset, f"{dataset}/dev", f"{dataset}/test")
    return [f"{stem}{ending}" for stem in stems for ending in (".json", ".jsonl")]


def _find(folder: Path, patterns: Sequence[str]) -> Path | None:
    return next((file for pattern in patterns for file in _matches(folder, pattern)), None)


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield the files that fit a relative pattern; a `*` stands in a folder's name only, and that in any case."""
    parent, _, name = pattern.rpartition("/")
    if not parent.endswith("*"):
        candidates = [folder / pattern]
    elif folder.is_dir():
        candidates = [
            child / name
            for child in (folder, *sorted(folder.iterdir()))
            if child.name.lower().startswith(parent.removesuffix("*"))
        ]
    else:
        candidates = []
    names = (file for candidate in candidates for file in (candidate, candidate.with_name(f"{candidate.name}.gz")))
    return (file for file in names if file.is_file())
