"""Where passages are read from: knowledge bases, corpus files, and folders of texts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from stepsearch.data.knowledge_base import MANIFEST_FILE
from stepsearch.data.passage_files import read_passages
from stepsearch.data.text_folder import PASSAGE_WORDS, text_files
from stepsearch.errors import ConfigError, DataError
from stepsearch.search.stored_passages import ADDED_FOLDER, StoredPassages
from stepsearch.types import Passage


class PassageSources:
    """Files and folders whose passages make one corpus, in that order."""

    def __init__(self, paths: Sequence[Path], passage_words: int | None = None) -> None:
        """Take what there is to read, without reading it.

        Args:
            paths: knowledge bases, files that `read_passages` reads, or folders of texts.
            passage_words: how many words the passages of folders of texts have; by default `PASSAGE_WORDS`.

        Raises:
            ConfigError: there are `passage_words` and no folder of texts.
            DataError: a path does not exist, a folder holds nothing to read, or two of them would give the same ids.
        """
        self._paths = paths
        self._passage_words = PASSAGE_WORDS if passage_words is None else passage_words
        missing = next((path for path in paths if not path.exists()), None)
        if missing is not None:
            raise DataError(f"{missing} does not exist: name a file of passages, a folder of texts or a knowledge base")
        folders = [path for path in paths if path.is_dir() and not _is_knowledge_base(path)]
        if passage_words is not None and not folders:
            raise ConfigError("--passage-words is for folders of texts: name one, or leave it out")
        _refuse_unreadable(folders)

    def read(self) -> Iterator[Passage]:
        """Return all passages, read one by one.

        Raises:
            DataError: something cannot be read.
        """
        return chain.from_iterable(map(self._passages, self._paths))

    def state(self) -> str:
        """Return a text that is another one when other passages would be read."""
        files = [file for path in self._paths for file in _files(path)]
        stats = ((file.resolve(), file.stat()) for file in files)
        return "\n".join([str(self._passage_words), *(f"{file} {s.st_size} {s.st_mtime_ns}" for file, s in stats)])

    def __str__(self) -> str:
        return ", ".join(path.resolve().name for path in self._paths)

    def _passages(self, path: Path) -> Iterable[Passage]:
        return StoredPassages.open(path) if _is_knowledge_base(path) else read_passages(path, self._passage_words)


def _refuse_unreadable(folders: Sequence[Path]) -> None:
    bare = next((folder for folder in folders if not text_files(folder)), None)
    if bare is not None:
        raise DataError(f"{bare} is a folder and no knowledge base, and has no .txt or .md files: name the files in it")
    names = Counter(folder.resolve().name for folder in folders)
    shared = next((name for name, count in names.items() if count > 1), None)
    if shared is not None:
        raise DataError(f"two folders are called {shared}, which their passages' ids begin with: rename one")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not _is_knowledge_base(path):
        return text_files(path)
    added = path / ADDED_FOLDER / MANIFEST_FILE
    return [path / MANIFEST_FILE, *([added] if added.is_file() else [])]


def _is_knowledge_base(path: Path) -> bool:
    return (path / MANIFEST_FILE).is_file()
