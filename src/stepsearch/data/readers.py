"""The benchmarks by name: how each is read, what its file is called, and where it is published."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stepsearch.data.bamboogle import read_bamboogle
from stepsearch.data.benchmark import Benchmark
from stepsearch.data.hotpotqa import read_hotpotqa
from stepsearch.data.musique import read_musique
from stepsearch.data.two_wiki import read_two_wiki
from stepsearch.errors import DataError

Reader = Callable[[Path], Benchmark]

READERS: dict[str, Reader] = {
    "hotpotqa": read_hotpotqa,
    "2wiki": read_two_wiki,
    "musique": read_musique,
    "bamboogle": read_bamboogle,
}


@dataclass(frozen=True, slots=True)
class Publication:
    """Where a benchmark comes from, and its evaluation file's names there, the preferred first."""

    title: str
    address: str
    file_names: tuple[str, ...]


PUBLICATIONS: dict[str, Publication] = {
    "hotpotqa": Publication(
        "HotpotQA", "https://hotpotqa.github.io", ("hotpot_dev_distractor_v1.json", "hotpot_dev_fullwiki_v1.json")
    ),
    "2wiki": Publication(
        "2WikiMultiHopQA",
        "https://github.com/Alab-NII/2wikimultihop",
        ("2wikimultihop_dev.json", "2wiki*/dev.json", "2wiki*/dev.jsonl"),
    ),
    "musique": Publication("MuSiQue", "https://github.com/StonyBrookNLP/musique", ("musique_ans_v1.0_dev.jsonl",)),
    "bamboogle": Publication(
        "Bamboogle", "https://github.com/ofirpress/self-ask", ("bamboogle_test.jsonl", "bamboogle.csv")
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


def find_benchmark_file(folder: Path, dataset: str) -> Path:
    """Return the evaluation file of a dataset: under a published name, as `<dataset>.json[l]` or in `<dataset>/`.

    Each may be packed with gzip, its name then ending in `.gz`.

    Raises:
        DataError: the dataset is unknown or nothing of it is in the folder; says what was looked for and where the
            benchmark is published.
    """
    publication = PUBLICATIONS[known_dataset(dataset)]
    patterns = (*publication.file_names, *_plain_names(dataset))
    found = next((file for pattern in patterns for file in _matches(folder, pattern)), None)
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
