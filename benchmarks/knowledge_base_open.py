"""What it takes to open a saved knowledge base with its BM25 index, by number of passages.

    OMP_NUM_THREADS=1 python benchmarks/knowledge_base_open.py --passages 2000 20000 100000

Passages of 60 words from a Zipf-like vocabulary, each with a title that has one word of its own, are written and
indexed once. Each repeat opens them in a process of its own and asks 50 queries of 4 words. Starting Python and
importing the libraries is not timed. The files were written just before, so the operating system has them in memory:
what is measured is the program, not the disk. "resident" is how much the process grew since the imports, pages of
mapped files included; "own" leaves those out (nan where the operating system does not tell).
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.search import BM25SearchEngine
from stepsearch.types import Passage

WORDS, VOCABULARY = 60, 200_000
QUERIES, QUERY_WORDS = 50, 4


def draw_texts(draw: np.random.Generator, count: int, words: int) -> Iterator[str]:
    """Yield texts whose r-th most frequent word has a probability proportional to 1 / r."""
    cumulated = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    for _ in range(count):
        yield " ".join(f"word{word}" for word in np.searchsorted(cumulated, draw.random(words) * cumulated[-1]))


def build(folder: Path, count: int) -> float:
    """Write and index passages; return the seconds it took."""
    started = time.perf_counter()
    texts = draw_texts(np.random.default_rng(0), count, WORDS)
    KnowledgeBase.create(folder, (Passage.from_text(text, f"title {i}") for i, text in enumerate(texts)))
    BM25SearchEngine.build(folder)
    return time.perf_counter() - started


def memory() -> np.ndarray:
    """Return the resident size of this process in MB, with and without mapped files."""
    sizes = psutil.Process().memory_info()
    return np.array([sizes.rss, sizes.rss - getattr(sizes, "shared", np.nan)]) / 1024**2


def open_and_ask(folder: Path) -> dict[str, float]:
    """Return what opening and asking took in this process: milliseconds, and MB of memory."""
    queries = list(draw_texts(np.random.default_rng(1), QUERIES, QUERY_WORDS))
    before = memory()
    times, processor = [time.perf_counter()], time.process_time()
    engine = BM25SearchEngine.open(folder)
    times.append(time.perf_counter())
    processor = time.process_time() - processor
    resident_open, own_open = memory() - before
    # Looking at the memory is not part of the first query.
    times.append(time.perf_counter())
    for query in queries:
        engine.search(query)
        times.append(time.perf_counter())
    opening, _, first, *later = (1000 * np.diff(times)).tolist()
    resident_asked, own_asked = memory() - before
    return {
        "open ms": opening,
        "open, processor ms": 1000 * processor,
        "first query ms": first,
        "later query ms": median(later),
        "resident, opened MB": resident_open,
        "resident, asked MB": resident_asked,
        "own, opened MB": own_open,
        "own, asked MB": own_asked,
    }


def in_a_new_process(folder: Path) -> dict[str, float]:
    """Return what `open_and_ask` measures in a process that has done nothing else."""
    command = [sys.executable, __file__, "--open", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def megabytes(folder: Path) -> float:
    """Return the size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1024**2


def main() -> None:
    """Print one table per number of passages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, nargs="+", default=[2_000, 20_000, 100_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--open", type=Path, metavar="FOLDER", help="open this one, in this process, and print JSON")
    options = parser.parse_args()
    if options.open:
        print(json.dumps(open_and_ask(options.open)))
        return
    print(f"Python {platform.python_version()}, numpy {np.__version__}")
    for count in options.passages:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "knowledge_base"
            seconds = build(folder, count)
            index = megabytes(folder / "bm25")
            print(f"\n{count} passages, built in {seconds:.1f} s")
            print(f"on disk: index {index:.1f} MB, passages with offsets {megabytes(folder) - index:.1f} MB")
            measured = [in_a_new_process(folder) for _ in range(options.repeats)]
        print(f"{'':19}  {'min':>8}  {'median':>8}  {'max':>8}")
        for name in measured[0]:
            values = sorted(one[name] for one in measured)
            print(f"{name:19}  {values[0]:8.2f}  {median(values):8.2f}  {values[-1]:8.2f}")


if __name__ == "__main__":
    main()
