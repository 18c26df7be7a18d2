"""Queries per CPU-second of the dense index beside faiss' flat one, and the compressed index's recall, in one run.

    OMP_NUM_THREADS=1 python benchmarks/dense_index.py --vectors 100000

Vectors are drawn around 2,000 centres, as far from them as these are from the origin: harder to group than texts. They
lie in a file that is memory-mapped, as a knowledge base's do. Both sides compare all vectors; the compressed index is
then asked for the same top 10. Processor time is this process's, so that other load on the machine stays out of it.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from numpy.lib.format import open_memmap

from stepsearch.search.dense_index import (
    DenseIndex,
    Hits,
    build_compressed,
    faiss_kind,
    import_faiss,
    open_compressed,
    probes_of,
)
from stepsearch.search.encoder import Vectors

TOP_K, BATCH, CENTRES, CHUNK = 10, 256, 2_000, 50_000


def draw(random: np.random.Generator, centres: Vectors, out: Vectors) -> None:
    """Fill `out` with vectors of length 1 around centres."""
    for start in range(0, len(out), CHUNK):
        count = min(CHUNK, len(out) - start)
        noise = random.standard_normal((count, centres.shape[1]), dtype=np.float32)
        noise += centres[random.integers(len(centres), size=count)]
        out[start : start + count] = noise / np.linalg.norm(noise, axis=1, keepdims=True)


def queries_per_cpu_second(ask: Callable[[], object], queries: int, repeats: int) -> float:
    """Return the median over repeats."""
    seconds: list[float] = []
    for _ in range(repeats):
        started = time.process_time()
        ask()
        seconds.append(time.process_time() - started)
    return queries / median(seconds)


def recall(exact: list[Hits], found: list[Hits]) -> float:
    """Return the share of the exact hits that were found."""
    shared = [len({place for place, _ in a} & {place for place, _ in b}) for a, b in zip(exact, found, strict=True)]
    return sum(shared) / sum(map(len, exact))


def faiss_flat(vectors: Vectors, queries: Vectors, repeats: int) -> float:
    """Return the queries per CPU-second of faiss' flat index."""
    index = import_faiss().IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return queries_per_cpu_second(lambda: index.search(queries, TOP_K), len(queries), repeats)


def measure(folder: Path, count: int, dimension: int, repeats: int) -> dict[str, float | str]:
    """Return the figures of one corpus size."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CENTRES, dimension), dtype=np.float32)
    vectors = open_memmap(folder / "v.npy", "w+", np.float32, (count, dimension))
    queries = np.empty((BATCH, dimension), dtype=np.float32)
    draw(random, centres, vectors)
    draw(random, centres, queries)
    vectors.flush()
    mapped = np.load(folder / "v.npy", mmap_mode="r").view(np.ndarray)
    flat = DenseIndex(mapped)
    exact = flat.best(queries, TOP_K)
    figures: dict[str, float | str] = {"vectors": count, "dimension": dimension, "kind": faiss_kind(count)}
    figures["flat"] = queries_per_cpu_second(lambda: flat.best(queries, TOP_K), BATCH, repeats)
    figures["faiss flat"] = faiss_flat(mapped, queries, repeats)
    started = time.process_time()
    build_compressed(mapped, folder / "c.faiss", faiss_kind(count))
    figures["build seconds"] = time.process_time() - started
    figures["compressed bytes"] = (folder / "c.faiss").stat().st_size
    started = time.perf_counter()
    compressed = DenseIndex(mapped, open_compressed(folder / "c.faiss"))
    figures["open seconds"] = time.perf_counter() - started
    figures["recall"] = recall(exact, compressed.best(queries, TOP_K))
    figures["compressed"] = queries_per_cpu_second(lambda: compressed.best(queries, TOP_K), BATCH, repeats)
    figures["probes"] = probes_of(open_compressed(folder / "c.faiss").nlist)
    figures["peak MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.vectors, args.dimension, args.repeats)
    print(json.dumps({name: round(v, 3) if isinstance(v, float) else v for name, v in figures.items()}, indent=2))


if __name__ == "__main__":
    main()
