"""A dense index on disk, in a folder of its own inside the knowledge base.

    vectors.npy      float32 [N, dimensions], one row for each passage
    probe.npy        float32 [dimensions]: the vector of a text that is always the same
    compressed.faiss faiss' index, beyond COMPRESSED_FROM passages
    manifest.json    of which passages, and by which encoder with which settings; written last

The probe tells whether an encoder is the one that made the vectors, whatever its folder is called.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from stepsearch.config import DenseSearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.data.whole_files import replace_folder
from stepsearch.errors import SearchError
from stepsearch.search.dense_index import (
    COMPRESSED_FROM,
    DenseIndex,
    build_compressed,
    faiss_kind,
    open_compressed,
)
from stepsearch.search.encoder import Encoder, Vectors
from stepsearch.types import Passage

INDEX_VERSION = 1
VECTORS_FILE, PROBE_FILE, COMPRESSED_FILE, MANIFEST_FILE = (
    "vectors.npy",
    "probe.npy",
    "compressed.faiss",
    "manifest.json",
)
FLAT = "flat"
PROBE = Passage("probe", "The library of the old town opens at nine in the morning.", "Opening hours")
# Lower than any rounding makes the cosine of a vector with itself, higher than that of two models' vectors.
_SAME = 0.999


@dataclass(frozen=True, slots=True)
class DenseManifest:
    """What an index was made of.

    Attributes:
        passages: the fingerprint of the knowledge base.
        encoder: the encoder's name.
        by_endpoint: whether an endpoint made the vectors.
        facts: the settings of `search.dense` that decided the vectors.
        dimension: numbers in a vector.
        kind: `flat`, or faiss' name of the index.
    """

    passages: str
    encoder: str
    by_endpoint: bool
    facts: Mapping[str, Any]
    dimension: int
    kind: str
    index_version: int = INDEX_VERSION


def describe(
    knowledge_base: KnowledgeBase, settings: DenseSearchSettings, encoder: Encoder, dimension: int
) -> DenseManifest:
    """Return the manifest of the index that an encoder makes of a knowledge base."""
    return DenseManifest(
        passages=knowledge_base.fingerprint,
        encoder=_lasting_name(settings.encoder or ""),
        by_endpoint=settings.url is not None,
        facts=dict(encoder.facts),
        dimension=dimension,
        kind=FLAT if len(knowledge_base) <= COMPRESSED_FROM else faiss_kind(len(knowledge_base)),
    )


def _lasting_name(encoder: str) -> str:
    """Return an encoder's name as it can be found from any folder."""
    folder = Path(encoder).expanduser()
    return str(folder.resolve()) if folder.is_dir() else encoder


def write_index(target: Path, manifest: DenseManifest, probe: Vectors, blocks: Iterable[Vectors], count: int) -> None:
    """Write an index, in place of the one that may be there: whole, or not at all.

    Args:
        target: its folder.
        manifest: says what it is made of.
        probe: [dimensions] the vector of PROBE.
        blocks: all vectors in their order, some at a time.
        count: how many.

    Raises:
        SearchError: the index is to be compressed, and faiss is not installed.
    """
    beside = target.with_name(f".{target.name}.tmp")
    # One that a killed run left behind.
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir()
        vectors = _write_vectors(beside / VECTORS_FILE, blocks, (count, manifest.dimension))
        if manifest.kind != FLAT:
            build_compressed(vectors, beside / COMPRESSED_FILE, manifest.kind)
        np.save(beside / PROBE_FILE, probe)
        (beside / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
        replace_folder(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_vectors(path: Path, blocks: Iterable[Vectors], shape: tuple[int, int]) -> Vectors:
    vectors = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    start = 0
    for block in blocks:
        vectors[start : start + len(block)] = block
        start += len(block)
    vectors.flush()
    return vectors


def read_manifest(knowledge_base: KnowledgeBase, index: str) -> DenseManifest:
    """Return the manifest of a knowledge base's index.

    Raises:
        SearchError: there is none, it is damaged, of another version, or of other passages.
    """
    folder = knowledge_base.folder / index
    try:
        manifest = DenseManifest(**json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8")))
    except OSError:
        raise _unusable(folder, "is missing") from None
    except (ValueError, TypeError):
        raise _unusable(folder, "is damaged") from None
    if manifest.index_version != INDEX_VERSION:
        raise _unusable(folder, "was made by another version")
    if manifest.passages != knowledge_base.fingerprint:
        raise _unusable(folder, "was made of other passages")
    return manifest


def settings_of_index(
    manifest: DenseManifest, settings: DenseSearchSettings, knowledge_base: KnowledgeBase
) -> DenseSearchSettings:
    """Return the settings with what they leave open taken from the index.

    Raises:
        SearchError: they say something else than the index.
    """
    folder = knowledge_base.folder / settings.index
    if manifest.by_endpoint and settings.url is None:
        # Not from the manifest: whoever opens a folder shall send nothing anywhere without saying so.
        raise SearchError(
            f"the dense index {folder} was made by {manifest.encoder} behind an endpoint: name it with "
            "search.dense.url=URL"
        )
    for key, made_with in manifest.facts.items():
        asked = getattr(settings, key)
        if asked not in (None, made_with):
            raise _unusable(folder, f"was made with search.dense.{key}={made_with!r}, and {asked!r} is asked for", key)
    return settings.model_copy(update={"encoder": settings.encoder or manifest.encoder, **manifest.facts})


def open_index(knowledge_base: KnowledgeBase, index: str, manifest: DenseManifest) -> tuple[DenseIndex, Vectors]:
    """Return an index, memory-mapped, and the vector of its PROBE.

    Raises:
        SearchError: a file is missing or not whole, or faiss is not installed.
    """
    folder = knowledge_base.folder / index
    try:
        mapped = np.load(folder / VECTORS_FILE, mmap_mode="r", allow_pickle=False)
        vectors, probe = mapped.view(np.ndarray), np.load(folder / PROBE_FILE, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unusable(folder, f"cannot be read ({error})") from None
    whole = vectors.shape == (len(knowledge_base), manifest.dimension) and probe.shape == (manifest.dimension,)
    if not whole or vectors.dtype != np.float32:
        raise _unusable(folder, "does not have one vector for each passage")
    compressed = None if manifest.kind == FLAT else open_compressed(folder / COMPRESSED_FILE)
    if compressed is not None and (compressed.ntotal, compressed.d) != vectors.shape:
        raise _unusable(folder, "does not have one compressed vector for each passage")
    return DenseIndex(vectors, compressed), probe


def check_encoder(encoder: Encoder, probe: Vectors, folder: Path, made_by: str, asked: str | None) -> None:
    """Refuse an encoder that did not make an index.

    Args:
        encoder: encodes PROBE.
        probe: the vector that the index has of it.
        folder: of the index.
        made_by: name of the encoder that made it.
        asked: name of the encoder that the settings ask for; None where they leave it to the index.

    Raises:
        SearchError: the vectors differ.
    """
    vector = encoder.encode_passages([PROBE])[0]
    if not same_vector(vector, probe):
        if asked is None or _lasting_name(asked) == made_by:
            raise _unusable(folder, f"was made by {made_by}, which has changed since")
        raise _unusable(folder, f"was made by another encoder ({made_by}), or by another version of it", "encoder")


def same_vector(first: Vectors, second: Vectors) -> bool:
    """Return whether two vectors are of one encoder, whose arithmetic may differ in its last bits."""
    if first.shape != second.shape:
        return False
    product = float(np.linalg.norm(first) * np.linalg.norm(second))
    return product == 0 or float(first @ second) >= _SAME * product


def _unusable(folder: Path, problem: str, key: str | None = None) -> SearchError:
    mend = f"leave out search.dense.{key}, or " if key else ""
    return SearchError(
        f"the dense index {folder} {problem}: {mend}make it anew with stepsearch index-dense --knowledge-base "
        f"{folder.parent} --encoder NAME"
    )
