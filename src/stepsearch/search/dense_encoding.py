"""Encoding a knowledge base: long work that shows how far it is, and goes on where it was cut off."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stepsearch.config import DenseSearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import SearchError
from stepsearch.progress import unseen
from stepsearch.search.dense_files import FLAT, PROBE, PROBE_FILE, DenseManifest, describe, same_vector, write_index
from stepsearch.search.dense_index import import_faiss
from stepsearch.search.encoder import Encoder, Vectors
from stepsearch.types import Passage

SHARD = 1024
_PLAN_FILE = "plan.json"

Progress = Callable[[int], None]
"""Called with a number of passages."""


def index_knowledge_base(
    knowledge_base: KnowledgeBase,
    encoder: Encoder,
    settings: DenseSearchSettings,
    progress: Progress = unseen,
    on_found: Progress = unseen,
) -> DenseManifest:
    """Encode a knowledge base and put the index beside its passages, in place of the one that may be there.

    Vectors are kept in shards while this goes on. Where it is cut off, the next call goes on with them, provided that
    encoder, settings and passages are the same.

    Args:
        knowledge_base: its passages are encoded.
        encoder: encodes them.
        settings: name the index's folder and the encoder.
        progress: is called with how many more passages have vectors, those of an earlier call too.
        on_found: is called once, with how many passages have vectors of an earlier call, if any have.

    Raises:
        DataError: an image of the passages cannot be read.
        SearchError: the index is to be compressed, and faiss is not installed; or the encoder fails.
    """
    probe = encoder.encode_passages([PROBE])[0]
    manifest = describe(knowledge_base, settings, encoder, len(probe))
    if manifest.kind != FLAT:
        # Said before hours of work, not after.
        import_faiss()
    partial = knowledge_base.folder / f".{settings.index}.partial"
    _prepare(partial, manifest, probe)
    starts = range(0, len(knowledge_base), SHARD)
    found = sum(min(SHARD, len(knowledge_base) - start) for start in starts if _shard_path(partial, start).exists())
    if found:
        on_found(found)
    for start in starts:
        _encode_shard(knowledge_base[start : start + SHARD], encoder, _shard_path(partial, start), len(probe))
        progress(min(SHARD, len(knowledge_base) - start))
    shards: Iterator[Vectors] = (np.load(_shard_path(partial, start), allow_pickle=False) for start in starts)
    write_index(knowledge_base.folder / settings.index, manifest, probe, shards, len(knowledge_base))
    shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _prepare(partial: Path, manifest: DenseManifest, probe: Vectors) -> None:
    """Make the shards' folder, and empty it if what it holds was made in another way."""
    plan = json.dumps(asdict(manifest), sort_keys=True)
    if _is_of(partial, plan, probe):
        return
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
    except OSError as error:
        raise SearchError(f"{partial} cannot be made: {error.strerror}") from None
    np.save(partial / PROBE_FILE, probe)
    (partial / _PLAN_FILE).write_text(plan, encoding="utf-8")


def _is_of(partial: Path, plan: str, probe: Vectors) -> bool:
    try:
        same_plan = (partial / _PLAN_FILE).read_text(encoding="utf-8") == plan
        return same_plan and same_vector(np.load(partial / PROBE_FILE, allow_pickle=False), probe)
    except (OSError, ValueError, EOFError):
        return False


def _shard_path(partial: Path, start: int) -> Path:
    return partial / f"{start:012d}.npy"


def _encode_shard(passages: Sequence[Passage], encoder: Encoder, path: Path, dimension: int) -> None:
    """Encode some passages, unless a run before has."""
    if path.exists():
        return
    vectors = np.ascontiguousarray(encoder.encode_passages(passages), dtype=np.float32)
    if vectors.shape != (len(passages), dimension):
        raise SearchError(f"the encoder returned vectors of shape {vectors.shape} for {len(passages)} passages")
    beside = path.with_name(f".{path.stem}.{os.getpid()}.npy")
    np.save(beside, vectors)
    os.replace(beside, path)
