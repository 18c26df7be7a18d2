"""A corpus on disk that opens at once, whatever its size.

    passages.jsonl   one passage a line: {"id": …, "title": …, "text": …}; of an image also its "image"
    offsets.npy      int64 [N + 1]: where each line starts, and the file's end
    manifest.json    format, version, number of passages, bytes, and a fingerprint of passages.jsonl
    bm25/ …          whatever indexes search engines put beside them
    added/           passages that were added later, in the same format (search/bm25_search.py)

Passages and offsets are memory-mapped; a passage is decoded when it is asked for.
"""

import hashlib
import json
import mmap
import shutil
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from stepsearch.data.kept_indexes import keep_indexes
from stepsearch.data.packed_files import not_permitted
from stepsearch.data.seen_hashes import SeenHashes
from stepsearch.data.whole_files import replace_folder
from stepsearch.errors import DataError
from stepsearch.types import Passage

KNOWLEDGE_BASE = "knowledge_base"
"""What a knowledge base's folder is called beside the questions that it goes with."""
FORMAT = "stepsearch-knowledge-base"
VERSION = 1
_CHUNK = 4096
_ANEW = "make it anew with stepsearch index, or with prepare-data --build-knowledge-base"
PASSAGES_FILE, OFFSETS_FILE, MANIFEST_FILE = "passages.jsonl", "offsets.npy", "manifest.json"


class KnowledgeBase(Sequence[Passage]):
    """The passages of a folder that `create` or `KnowledgeBaseWriter` wrote.

    Attributes:
        folder: where it lies.
        fingerprint: hash of all passages in their order; equal corpora have equal ones.
    """

    def __init__(self, folder: Path, fingerprint: str, lines: mmap.mmap, offsets: NDArray[np.int64]) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self._lines = lines
        # Elements of a memoryview are plain numbers, and several times as fast to get as numpy's.
        self._offsets = offsets.data

    @classmethod
    def create(cls, folder: Path, passages: Iterable[Passage]) -> "KnowledgeBase":
        """Write passages, each id and content once, in place of the knowledge base that `folder` may hold; open it.

        Raises:
            DataError: there are no passages, or `folder` holds something else than a knowledge base.
        """
        folder = Path(folder)
        require_replaceable(folder)
        beside = folder.with_name(f".{folder.name}.tmp")
        # One that a killed run left behind.
        shutil.rmtree(beside, ignore_errors=True)
        try:
            with KnowledgeBaseWriter(beside) as writer:
                writer.add_all(passages)
            replace_knowledge_base(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "KnowledgeBase":
        """Open a knowledge base without reading its passages.

        Raises:
            DataError: the folder is no knowledge base, of another version, or not whole.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        try:
            offsets = np.load(folder / OFFSETS_FILE, mmap_mode="r", allow_pickle=False).view(np.ndarray)
            with (folder / PASSAGES_FILE).open("rb") as file:
                lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except PermissionError as error:
            raise not_permitted(error) from None
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(folder, f"{error}") from None
        fits = offsets.shape == (manifest["passages"] + 1,) and offsets.dtype == np.int64
        if not fits or not len(lines) == manifest["bytes"] == offsets[-1]:
            raise _damaged(folder, f"its files do not fit {MANIFEST_FILE}")
        return cls(folder, manifest["fingerprint"], lines, offsets)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> list[Passage]: ...
    def __getitem__(self, index: int | slice) -> Passage | list[Passage]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        return self._decode(position, self._lines[self._offsets[position] : self._offsets[position + 1]])

    def __iter__(self) -> Iterator[Passage]:
        for first in range(0, len(self), _CHUNK):
            bounds = self._offsets[first : first + _CHUNK + 1].tolist()
            for position, (start, end) in enumerate(pairwise(bounds), start=first):
                yield self._decode(position, self._lines[start:end])
            self._give_back(bounds[-1])

    def _give_back(self, end: int) -> None:
        """Unmap the pages of the first bytes, so that reading a corpus through does not fill memory with it."""
        # Where the system knows no such advice it finds them itself when memory is short.
        if (whole := end // mmap.PAGESIZE * mmap.PAGESIZE) and hasattr(mmap, "MADV_DONTNEED"):
            self._lines.madvise(mmap.MADV_DONTNEED, 0, whole)

    def _decode(self, position: int, line: bytes) -> Passage:
        try:
            # Several times as fast as json.
            return Passage(**from_json(line))
        except (ValueError, TypeError):
            raise _damaged(self.folder, f"passage {position} cannot be decoded") from None


class KnowledgeBaseWriter:
    """Writes a knowledge base passage by passage into a new folder; it can be opened once the writer is closed.

    In memory it keeps where each line starts and hashes of what it has written: for 21 million passages 0.45 GB where
    ids are hashes of the content, 0.7 GB with other ids.

    Attributes:
        repeated: passages left out so far because they had been written.

    Example:
        with KnowledgeBaseWriter(folder) as writer:
            writer.add_all(passages)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents = SeenHashes()
        self._ids = SeenHashes()
        self._offsets = array("q", [0])
        self._hash = hashlib.blake2b(digest_size=16)
        self.repeated = 0
        folder.mkdir(parents=True)
        self._file = (folder / PASSAGES_FILE).open("wb")

    def add_all(self, passages: Iterable[Passage]) -> None:
        """Write passages, but for those whose title, text and image, or whose id, have been written."""
        for passage in passages:
            if self._is_new(passage):
                self._add(passage)
            else:
                self.repeated += 1

    def _is_new(self, passage: Passage) -> bool:
        content = passage.content_id
        if not self._contents.add(content.encode()):
            return False
        # An id that is the content's hash needs no second look.
        return passage.id == content or self._ids.add(passage.id.encode())

    def _add(self, passage: Passage) -> None:
        fields = {"id": passage.id, "title": passage.title, "text": passage.text}
        if passage.image is not None:
            fields["image"] = passage.image
        line = f"{json.dumps(fields, ensure_ascii=False)}\n".encode()
        self._file.write(line)
        self._hash.update(line)
        self._offsets.append(self._offsets[-1] + len(line))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __enter__(self) -> "KnowledgeBaseWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._finish()

    def _finish(self) -> None:
        if not len(self):
            raise DataError("a knowledge base needs at least one passage, and there is none")
        np.save(self._folder / OFFSETS_FILE, np.frombuffer(self._offsets, dtype=np.int64))
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "passages": len(self),
            "bytes": self._offsets[-1],
            "fingerprint": self._hash.hexdigest(),
        }
        (self._folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def knowledge_base_beside(file: Path) -> Path | None:
    """Return the folder of the knowledge base beside a file of questions; None without one."""
    folder = file.parent / KNOWLEDGE_BASE
    return folder if folder.is_dir() else None


def replace_knowledge_base(source: Path, target: Path) -> None:
    """Move the folder `source` to `target`; a knowledge base that stood there goes once the new one is in place.

    Indexes of the very same passages that only the old one has are kept.

    Raises:
        DataError: `target` holds something else.
    """
    require_replaceable(target)
    keep_indexes(target, source, _read_manifest(source)["fingerprint"])
    replace_folder(source, target)


def require_replaceable(folder: Path) -> None:
    """Refuse a folder that a knowledge base may not take the place of: it is there, not empty, and none itself.

    Raises:
        DataError: it is such a folder, or a file.
    """
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / MANIFEST_FILE).is_file()):
        return
    if folder.exists():
        raise DataError(f"{folder} exists and is no knowledge base: name another folder, or delete it")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        reason = f"has no {MANIFEST_FILE}" if folder.is_dir() else "is a file" if folder.exists() else "does not exist"
        raise DataError(
            f"{folder} is no knowledge base: it {reason}; make one with stepsearch index, "
            "or with prepare-data --build-knowledge-base"
        ) from None
    except PermissionError as error:
        raise not_permitted(error) from None
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{MANIFEST_FILE}: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not the manifest of a knowledge base")
    if manifest.get("version") != VERSION:
        raise DataError(
            f"{folder} is a knowledge base of version {manifest.get('version')} and this program reads version "
            f"{VERSION}: {_ANEW}"
        )
    for key, kind in (("passages", int), ("bytes", int), ("fingerprint", str)):
        if not isinstance(manifest.get(key), kind):
            raise _damaged(folder, f"{MANIFEST_FILE} lacks '{key}'")
    return manifest


def _damaged(folder: Path, problem: str) -> DataError:
    return DataError(f"the knowledge base {folder} is not whole ({problem}): {_ANEW}")
