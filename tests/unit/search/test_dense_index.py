"""The nearest vectors, against a plain comparison of all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepsearch.search import dense_index
from stepsearch.search.dense_index import (
    DenseIndex,
    build_compressed,
    faiss_kind,
    groups_of,
    open_compressed,
    probes_of,
)


def unit(rows: Any) -> Any:
    vectors = np.asarray(rows, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clustered(count: int, dimension: int = 16, clusters: int = 40) -> Any:
    """Vectors as models make them: around some centres."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(clusters, dimension))
    return unit(centres[random.integers(clusters, size=count)] + 0.4 * random.normal(size=(count, dimension)))


def test_scores_by_hand() -> None:
    index = DenseIndex(np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32))
    (hits,) = index.best(np.array([[1, 0]], dtype=np.float32), 2)
    assert hits == [(0, 1.0), (2, pytest.approx(0.6))]
    assert len(index.best(np.array([[0, 1], [1, 0]], dtype=np.float32), 99)[1]) == 3


def test_of_equal_scores_the_earlier_comes_first_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_index, "_BLOCK", 8)
    index = DenseIndex(unit([[1, 1]] * 50))
    (hits,) = index.best(unit([[1, 0]]), 3)
    assert [place for place, _ in hits] == [0, 1, 2]


def test_blocks_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = clustered(500), clustered(20)
    whole = DenseIndex(vectors).best(queries, 7)
    monkeypatch.setattr(dense_index, "_BLOCK", 33)
    assert DenseIndex(vectors).best(queries, 7) == whole
    assert [DenseIndex(vectors).best(query[None], 7)[0] for query in queries] == whole
    plain = np.argsort(-(queries @ vectors.T), axis=1)[:, :7]
    assert [[place for place, _ in hits] for hits in whole] == plain.tolist()


def test_added_vectors_are_found_as_if_they_had_always_been_there() -> None:
    vectors, queries = clustered(60), clustered(5)
    grown = DenseIndex(vectors[:40])
    grown.add(vectors[40:50])
    grown.add(vectors[50:])
    assert len(grown) == 60
    assert grown.best(queries, 9) == DenseIndex(vectors).best(queries, 9)
    assert np.array_equal(np.concatenate(list(grown.blocks())), vectors)


def test_kinds_grow_with_the_corpus() -> None:
    assert [groups_of(count) for count in (100_001, 1_000_000, 21_000_000)] == [256, 1024, 4096]
    assert [probes_of(groups) for groups in (1, 256, 1024, 4096)] == [1, 32, 64, 128]
    assert faiss_kind(1_000_000) == "IVF1024,SQ8"


def test_a_compressed_index_is_mapped_finds_nearly_all_and_scores_exactly(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    vectors, queries = clustered(3000), clustered(50)
    for name in ("a", "b"):
        build_compressed(vectors, tmp_path / name, "IVF64,SQ8")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    index = DenseIndex(vectors, open_compressed(tmp_path / "a"))
    index.add(clustered(3010)[3000:])
    exact, found = DenseIndex(vectors).best(queries, 10), DenseIndex(vectors, index._compressed).best(queries, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(exact, found, strict=True)]
    assert sum(shared) / 500 > 0.95
    assert len(index.best(queries, 3000)[0]) <= 3010
