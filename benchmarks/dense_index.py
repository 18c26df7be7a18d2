"""The dense index beside faiss' flat one: building, opening, memory, speed and exactness, in one run.

    OMP_NUM_THREADS=1 python benchmarks/dense_index.py --vectors 100000
    OMP_NUM_THREADS=1 python benchmarks/dense_index.py --vectors 1000000 --centres 0

Vectors of length 1 are drawn around centres, as far from them as these are from the origin: harder to group than texts.
Without centres they are drawn evenly from all directions, where no grouping helps. `all compared` is our index of up to
100,000 passages, `compressed` that of more, `faiss flat` is `IndexFlatIP`, read from the file that faiss writes. Each
is opened and asked in a process of its own; the files were written just before, so that the operating system has them
in memory. "own" and "mapped" are how much its own memory and the pages of mapped files in it grew by opening and
asking. "found" is the share of the exact top 10, by products in 64 bits, that is among its ten. Speeds are per second
of that process's processor time: batches of 256, and the first queries of the batch one by one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from stepsearch.search.dense_index import DenseIndex, build_compressed, faiss_kind, import_faiss, open_compressed
from stepsearch.search.encoder import Vectors

TOP_K, BATCH, SINGLE, CHUNK = 10, 256, 32, 50_000
OURS_FLAT, OURS, THEIRS = "all compared", "compressed", "faiss flat"
VECTORS, QUERIES, COMPRESSED, FLAT = "vectors.npy", "queries.npy", "compressed.faiss", "flat.faiss"

Ask = Callable[[Vectors], list[list[int]]]
"""Returns the positions of the best vectors of each query."""


def draw(random: np.random.Generator, centres: Vectors, out: Vectors) -> None:
    """Fill `out` with vectors of length 1, around centres where there are any."""
    for start in range(0, len(out), CHUNK):
        count = min(CHUNK, len(out) - start)
        drawn = random.standard_normal((count, out.shape[1]), dtype=np.float32)
        if len(centres):
            drawn += centres[random.integers(len(centres), size=count)]
        out[start : start + count] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def write(folder: Path, count: int, dimension: int, centres: int) -> None:
    """Write vectors, queries and the indexes over them; print what building took."""
    random = np.random.default_rng(0)
    around = random.standard_normal((centres, dimension), dtype=np.float32)
    vectors = open_memmap(folder / VECTORS, "w+", np.float32, (count, dimension))
    queries = np.empty((BATCH, dimension), dtype=np.float32)
    draw(random, around, vectors)
    draw(random, around, queries)
    vectors.flush()
    np.save(folder / QUERIES, queries)
    started = time.process_time()
    build_compressed(vectors, folder / COMPRESSED, faiss_kind(count))
    seconds = time.process_time() - started
    faiss = import_faiss()
    flat = faiss.IndexFlatIP(dimension)
    flat.add(vectors)
    faiss.write_index(flat, str(folder / FLAT))
    sizes = ", ".join(f"{name} {(folder / name).stat().st_size / 1e6:,.0f} MB" for name in (VECTORS, COMPRESSED, FLAT))
    print(
        f"{count:,} x {dimension}, {centres or 'no'} centres; {faiss_kind(count)} built in {seconds:.0f} CPU-s; {sizes}"
    )


def exact(vectors: Vectors, queries: Vectors) -> NDArray[np.int64]:
    """Return the positions of the TOP_K largest products of each query, computed in 64 bits; [queries, TOP_K]."""
    wide = queries.astype(np.float64)
    best = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0))
    for start in range(0, len(vectors), CHUNK):
        products = wide @ vectors[start : start + CHUNK].astype(np.float64).T
        scores = np.concatenate([scores, products], axis=1)
        best = np.concatenate([best, np.broadcast_to(np.arange(start, start + products.shape[1]), products.shape)], 1)
        top = np.argpartition(scores, -TOP_K, axis=1)[:, -TOP_K:]
        scores, best = np.take_along_axis(scores, top, 1), np.take_along_axis(best, top, 1)
    return best


def opened(folder: Path, side: str) -> Ask:
    """Return what answers with one of the indexes."""
    if side == THEIRS:
        flat = import_faiss().read_index(str(folder / FLAT))
        return lambda queries: flat.search(queries, TOP_K)[1].tolist()
    vectors = np.load(folder / VECTORS, mmap_mode="r").view(np.ndarray)
    index = DenseIndex(vectors, open_compressed(folder / COMPRESSED) if side == OURS else None)
    return lambda queries: [[position for position, _ in hits] for hits in index.best(queries, TOP_K)]


def memory() -> NDArray[np.float64]:
    """Return this process's own memory and the pages of mapped files in it, MB."""
    sizes = psutil.Process().memory_info()
    return np.array([sizes.rss - sizes.shared, sizes.shared]) / 1e6


def queries_per_cpu_second(ask: Ask, batches: list[Vectors]) -> float:
    """Return how many queries are answered in a second of processor time."""
    started = time.process_time()
    for batch in batches:
        ask(batch)
    return sum(map(len, batches)) / (time.process_time() - started)


def open_and_ask(folder: Path, side: str, repeats: int) -> dict[str, list[float] | list[list[int]]]:
    """Return what one side takes and finds, in this process."""
    queries = np.load(folder / QUERIES)
    # Its import is not what is measured.
    import_faiss()
    before, started = memory(), time.perf_counter()
    ask = opened(folder, side)
    seconds = time.perf_counter() - started
    found = ask(queries)
    own, mapped = memory() - before
    return {
        "found": found,
        "open s": [seconds],
        "own MB": [own],
        "mapped MB": [mapped],
        "queries/CPU-s, batches of 256": [queries_per_cpu_second(ask, [queries]) for _ in range(repeats)],
        "queries/CPU-s, one by one": [
            queries_per_cpu_second(ask, list(queries[:SINGLE, None])) for _ in range(repeats)
        ],
    }


def in_a_new_process(folder: Path, side: str, repeats: int) -> dict[str, list[float] | list[list[int]]]:
    """Return what `open_and_ask` returns in a process that has done nothing else."""
    command = [sys.executable, __file__, "--ask", side, "--folder", str(folder), "--repeats", str(repeats)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a table for each side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--centres", type=int, default=2_000, help="0: vectors are drawn evenly from all directions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ask", choices=(OURS_FLAT, OURS, THEIRS), help="be that side, in this process")
    parser.add_argument("--folder", type=Path, help="with what is there already")
    args = parser.parse_args()
    if args.ask:
        print(json.dumps(open_and_ask(args.folder, args.ask, args.repeats)))
        return
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        write(folder, args.vectors, args.dimension, args.centres)
        reference = exact(np.load(folder / VECTORS, mmap_mode="r"), np.load(folder / QUERIES)).tolist()
        for side in (OURS_FLAT, OURS, THEIRS):
            figures = in_a_new_process(folder, side, args.repeats)
            found = figures.pop("found")
            shares = np.array([len(set(a) & set(b)) / TOP_K for a, b in zip(reference, found, strict=True)])
            print(f"\n{side}: found {shares.mean():.3f}, all ten for {(shares == 1).mean():.3f} of the queries")
            for name, values in figures.items():
                low, median, high = np.quantile(np.array(values, float), [0, 0.5, 1])
                print(f"  {name:30} {low:10.2f} {median:10.2f} {high:10.2f}", flush=True)


if __name__ == "__main__":
    main()
