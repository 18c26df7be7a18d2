"""BM25 by number of passages: building, opening, asking and exactness, beside raw bm25s and tantivy.

    OMP_NUM_THREADS=1 python benchmarks/bm25_scale.py --passages 20000 100000

Passages of 60 to 100 words from a Zipf-like vocabulary of a million words are written once as a knowledge base. Every
engine indexes them, and is asked, in processes of its own, one thread each. A query is 5 words drawn from one
passage, frequent ones included. "queries/CPU-s" is over batches of 256 of the first 10 passages after one batch that
is not counted: ours from text to passages, the others from words to positions, which is less work. "peak" is the
process's largest resident size, mapped files included. "own" and "mapped" are how much its own memory and the pages of
mapped files in it grew by opening and asking; numba itself is part of the former where it is used.

The exact reference counts the queries' words in all passages anew, in Python, and scores in 64 bits. "agreement" is the
share of queries whose 10 passages have the reference's 10 best scores (to 1e-5, so that it does not matter which of
equal ones are taken), "order" the share with the same passages in the same order, equal scores by position.

An engine that is not installed is left out: `pip install bm25s numba tantivy` adds them. numba compiles in the batch
that is not counted. bm25s needs 3 GB a million passages to build its index; `bm25s-written` is its search over files
that this program writes for it out of our postings, for numbers of passages that it cannot index here.

What lies in `--folder` is built once and used again; `--plot FILE` draws the figures of all sizes there.
"""

import argparse
import json
import logging
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.search.bm25_index import BM25Index, index_terms
from stepsearch.search.bm25_query import K1, B, LengthNorm, gained, idf
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.types import Passage

VOCABULARY, SHORTEST, LONGEST = 1_000_000, 60, 100
QUERY_WORDS, TOP_K, BATCH = 5, 10, 256
_DRAWN_AT_ONCE = 2_000

Ask = Callable[[Sequence[str]], list[list[int]]]
"""Returns the positions of the best passages of each query of a batch."""


def passages(count: int) -> Iterator[Passage]:
    """Yield passages whose r-th most frequent word has a probability proportional to 1 / r; ids are positions."""
    draw = np.random.default_rng(0)
    cumulated = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    for first in range(0, count, _DRAWN_AT_ONCE):
        lengths = draw.integers(SHORTEST, LONGEST + 1, min(_DRAWN_AT_ONCE, count - first))
        words = np.searchsorted(cumulated, draw.random(lengths.sum()) * cumulated[-1])
        for place, drawn in enumerate(np.split(words, np.cumsum(lengths)[:-1])):
            yield Passage(str(first + place), " ".join(f"w{word}" for word in drawn.tolist()))


def draw_queries(folder: Path, count: int) -> list[str]:
    """Return queries of words that stand together in a passage."""
    draw, corpus = np.random.default_rng(1), KnowledgeBase.open(folder)
    chosen = (corpus[int(position)].text.split() for position in draw.integers(len(corpus), size=count))
    return [" ".join(draw.choice(words, QUERY_WORDS, replace=False)) for words in chosen]


def build_ours(folder: Path) -> None:
    """Index as `stepsearch index` does."""
    BM25SearchEngine.build(folder / "kb").close()


def open_ours(folder: Path) -> Ask:
    """Return the engine's search, from text to passages."""
    engine = BM25SearchEngine.open(folder / "kb")
    return lambda queries: [[int(hit.id) for hit in hits] for hits in engine.search_batch(queries, TOP_K)]


def build_bm25s(folder: Path, backend: str) -> None:
    """Index the words with bm25s."""
    import bm25s

    numbers: dict[str, int] = {}
    corpus = KnowledgeBase.open(folder / "kb")
    ids = [[numbers.setdefault(word, len(numbers)) for word in index_terms(passage.text)] for passage in corpus]
    scorer = bm25s.BM25(k1=K1, b=B, method="lucene", backend=backend)
    scorer.index((ids, numbers), create_empty_token=False, show_progress=False)
    scorer.save(folder / f"bm25s-{backend}", show_progress=False)


def write_bm25s(folder: Path) -> None:
    """Write the files that bm25s would have written: the score of every posting, by term and document."""
    import bm25s

    [postings] = BM25Index.open(folder / "kb" / "bm25").parts
    target, vocabulary = folder / "bm25s-written", postings.vocabulary
    target.mkdir()
    norm = LengthNorm.around(float(postings.lengths.mean(dtype=np.float64)))
    scores = np.lib.format.open_memmap(target / "data.csc.index.npy", "w+", np.float32, (len(postings.documents),))
    for start, stop in pairwise(postings.starts.tolist()):
        norms = norm.of(postings.lengths[postings.documents[start:stop]])
        weight = np.float32(idf(len(postings), stop - start))
        scores[start:stop] = gained(weight, postings.frequencies[start:stop], norms)
    scores.flush()
    np.save(target / "indices.csc.index.npy", postings.documents)
    np.save(target / "indptr.csc.index.npy", postings.starts)
    words = {word: vocabulary.term(word) for word in (vocabulary[n].decode() for n in range(len(vocabulary)))}
    (target / "vocab.index.json").write_text(json.dumps(words), encoding="utf-8")
    scorer = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numba", auto_compile=False)
    names = ("k1", "b", "delta", "method", "idf_method", "dtype", "int_dtype", "backend")
    parameters = {name: getattr(scorer, name) for name in names} | {"num_docs": len(postings)}
    (target / "params.index.json").write_text(json.dumps(parameters), encoding="utf-8")


def open_bm25s(folder: Path, name: str) -> Ask:
    """Return bm25s's own search, memory-mapped."""
    import bm25s

    scorer = bm25s.BM25.load(folder / name, mmap=True, show_progress=False)

    def ask(queries: Sequence[str]) -> list[list[int]]:
        words = [index_terms(query) for query in queries]
        found, _ = scorer.retrieve(words, k=TOP_K, show_progress=False, n_threads=1)
        return found.tolist()

    return ask


def build_tantivy(folder: Path) -> None:
    """Index the words with tantivy, in one thread."""
    import tantivy

    schema = tantivy.SchemaBuilder()
    schema.add_text_field("text", tokenizer_name="default", index_option="freq")
    schema.add_integer_field("position", stored=True)
    (folder / "tantivy").mkdir()
    index = tantivy.Index(schema.build(), path=str(folder / "tantivy"))
    writer = index.writer(heap_size=500_000_000, num_threads=1)
    for position, passage in enumerate(KnowledgeBase.open(folder / "kb")):
        writer.add_document(tantivy.Document(text=passage.text, position=position))
    writer.commit()
    writer.wait_merging_threads()


def open_tantivy(folder: Path) -> Ask:
    """Return tantivy's search for any of the words."""
    import tantivy

    index = tantivy.Index.open(str(folder / "tantivy"))
    searcher, schema = index.searcher(), index.schema

    def search(query: str) -> list[int]:
        terms = [tantivy.Query.term_query(schema, "text", word) for word in index_terms(query)]
        any_of = tantivy.Query.boolean_query([(tantivy.Occur.Should, term) for term in terms])
        hits = searcher.search(any_of, TOP_K, count=False).hits
        return [searcher.doc(address)["position"][0] for _, address in hits]

    return lambda queries: [search(query) for query in queries]


BUILD: dict[str, Callable[[Path], None]] = {
    "ours": build_ours,
    "bm25s-numba": lambda folder: build_bm25s(folder, "numba"),
    "bm25s-numpy": lambda folder: build_bm25s(folder, "numpy"),
    "bm25s-written": write_bm25s,
    "tantivy": build_tantivy,
}
OPEN: dict[str, Callable[[Path], Ask]] = {
    "ours": open_ours,
    "bm25s-numba": lambda folder: open_bm25s(folder, "bm25s-numba"),
    "bm25s-numpy": lambda folder: open_bm25s(folder, "bm25s-numpy"),
    "bm25s-written": lambda folder: open_bm25s(folder, "bm25s-written"),
    "tantivy": open_tantivy,
}
INDEX = {"ours": "kb/bm25"}
DEFAULT = ["ours", "bm25s-numba", "bm25s-numpy", "tantivy"]
NEEDS = {"bm25s-numba": "numba", "bm25s-numpy": "bm25s", "bm25s-written": "numba", "tantivy": "tantivy"}


def measured_build(folder: Path, engine: str) -> dict[str, Any]:
    """Return what building took in this process."""
    started, processor = time.perf_counter(), time.process_time()
    BUILD[engine](folder)
    index = folder / INDEX.get(engine, engine)
    return {
        "build s": time.perf_counter() - started,
        "build CPU-s": time.process_time() - processor,
        "build peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "disk MB": sum(path.stat().st_size for path in index.rglob("*") if path.is_file()) / 1024**2,
    }


def memory() -> np.ndarray:
    """Return how much of this process's memory is its own, and how much are pages of mapped files, in MB."""
    sizes = psutil.Process().memory_info()
    return np.array([sizes.rss - sizes.shared, sizes.shared]) / 1024**2


def measured_queries(folder: Path, engine: str) -> dict[str, Any]:
    """Return what opening and asking took in this process, and what was found."""
    queries = json.loads((folder / "queries.json").read_text(encoding="utf-8"))
    batches = [queries[first : first + BATCH] for first in range(0, len(queries), BATCH)]
    before, started = memory(), time.perf_counter()
    ask = OPEN[engine](folder)
    opening = time.perf_counter() - started
    started = time.perf_counter()
    ask(batches[-1])
    first = time.perf_counter() - started
    started, processor = time.perf_counter(), time.process_time()
    found = [hits for batch in batches for hits in ask(batch)]
    processor, seconds = time.process_time() - processor, time.perf_counter() - started
    own, mapped = (memory() - before).tolist()
    return {
        "open ms": 1000 * opening,
        "first batch s": first,
        "queries/CPU-s": len(queries) / processor,
        "queries/s": len(queries) / seconds,
        "own MB": own,
        "mapped MB": mapped,
        "found": found,
    }


class Reference:
    """Exact scores in 64 bits, from a plain count of the queries' words in every passage."""

    def __init__(self, folder: Path, queries: Sequence[str]) -> None:
        """Read all passages once."""
        wanted = {word for query in queries for word in index_terms(query)}
        corpus = KnowledgeBase.open(folder)
        self._lengths = np.empty(len(corpus))
        self._postings = {word: (array("i"), array("i")) for word in wanted}
        for position, passage in enumerate(corpus):
            words = index_terms(passage.text)
            self._lengths[position] = len(words)
            for word, count in Counter(filter(wanted.__contains__, words)).items():
                documents, frequencies = self._postings[word]
                documents.append(position)
                frequencies.append(count)

    def scores(self, query: str) -> np.ndarray:
        """Return the score of every passage."""
        scores, average = np.zeros(len(self._lengths)), self._lengths.mean()
        for word in index_terms(query):
            documents, frequencies = (np.frombuffer(numbers, np.int32) for numbers in self._postings[word])
            weight = math.log(1 + (len(scores) - len(documents) + 0.5) / (len(documents) + 0.5))
            norm = K1 * (1 - B + B * self._lengths[documents] / average)
            scores[documents] += weight * frequencies / (frequencies + norm)
        return scores


def agreement(reference: Reference, queries: Sequence[str], found: dict[str, list[list[int]]]) -> dict[str, Counter]:
    """Return for every engine how many queries agree in their scores, and how many in their order."""
    counts: dict[str, Counter] = {engine: Counter() for engine in found}
    for number, query in enumerate(queries):
        scores = reference.scores(query)
        least = np.partition(scores, -TOP_K)[-TOP_K]
        best = np.flatnonzero(scores >= least)
        best = best[np.argsort(-scores[best], kind="stable")[:TOP_K]]
        best = best[scores[best] > 0]
        for engine, results in found.items():
            # bm25s fills up with passages that have none of the words.
            hits = [position for position in results[number] if scores[position] > 0]
            same = len(hits) == len(best) and np.allclose(np.sort(scores[hits]), np.sort(scores[best]), rtol=1e-5)
            counts[engine]["agreement"] += bool(same)
            counts[engine]["order"] += hits == best.tolist()
    return counts


def in_a_new_process(stage: str, folder: Path, engine: str) -> dict[str, Any]:
    """Return what a stage measures in a process that has done nothing else."""
    command = [sys.executable, __file__, "--stage", stage, "--engine", engine, "--folder", str(folder)]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=quiet)
    return json.loads(finished.stdout.splitlines()[-1])


def compare(folder: Path, count: int, engines: Sequence[str], queries: int, reference_queries: int) -> None:
    """Build, open and ask every engine over one corpus, and print a table."""
    if not (folder / "kb").is_dir():
        KnowledgeBase.create(folder / "kb", passages(count))
    size = (folder / "kb" / "passages.jsonl").stat().st_size / 1024**2
    print(f"\n{count:,} passages, {size:,.0f} MB", flush=True)
    asked = draw_queries(folder / "kb", queries)
    (folder / "queries.json").write_text(json.dumps(asked), encoding="utf-8")
    rows: dict[str, dict[str, Any]] = {}
    for engine in engines:
        built = folder / f"{engine}.json"
        if not built.is_file():
            built.write_text(json.dumps(in_a_new_process("build", folder, engine)), encoding="utf-8")
        rows[engine] = json.loads(built.read_text(encoding="utf-8"))
        print(f"{engine} built: {rows[engine]['build s']:.0f} s", file=sys.stderr, flush=True)
    for engine in engines:
        rows[engine] |= in_a_new_process("ask", folder, engine)
        print(f"{engine} asked: {rows[engine]['queries/CPU-s']:.0f} queries/CPU-s", file=sys.stderr, flush=True)
    found = {engine: row.pop("found") for engine, row in rows.items()}
    if reference_queries:
        checked = asked[:reference_queries]
        counts = agreement(Reference(folder / "kb", checked), checked, found)
        for engine, row in rows.items():
            row |= {name: counts[engine][name] / len(checked) for name in ("agreement", "order")}
    (folder / "figures.json").write_text(json.dumps(rows), encoding="utf-8")
    print(f"{'':14}" + "".join(f"{engine:>14}" for engine in rows))
    for name in next(iter(rows.values())):
        print(f"{name:14}" + "".join(f"{row[name]:14,.3f}" for row in rows.values()), flush=True)


def draw_plot(folder: Path, target: Path) -> None:
    """Draw how cost grows: building and its memory, files and what is resident, speed of all engines."""
    import matplotlib  # Needed for nothing else here.

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = {int(path.parent.name): json.loads(path.read_text()) for path in folder.glob("*/figures.json")}
    sizes = sorted(figures)
    panels = {
        "building": (("build CPU-s", "build peak MB"), ["ours"]),
        "disk and memory": (("disk MB", "own MB", "mapped MB"), ["ours"]),
        "asking": (("queries/CPU-s",), sorted({engine for rows in figures.values() for engine in rows})),
    }
    figure, axes = pyplot.subplots(1, len(panels), figsize=(12.0, 4.0), layout="constrained")
    for axis, (title, (names, engines)) in zip(axes, panels.items(), strict=True):
        for engine in engines:
            there = [size for size in sizes if engine in figures[size]]
            for name in names:
                label = name if len(engines) == 1 else engine
                axis.loglog(there, [figures[size][engine][name] for size in there], marker="o", label=label)
        axis.set_title(title if len(names) > 1 else f"{title}: {names[0]}")
        axis.set_xlabel("passages")
        axis.legend()
        axis.grid(which="both", alpha=0.2)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=100)


def main() -> None:
    """Print one table per number of passages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--engines", nargs="+", choices=list(BUILD), default=DEFAULT)
    parser.add_argument("--queries", type=int, default=1_024)
    parser.add_argument("--reference-queries", type=int, default=1_000, help="0 leaves the exact reference out")
    parser.add_argument("--folder", type=Path, help="where everything is written, and left; else a temporary one")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="image to draw; default: none is drawn")
    parser.add_argument("--stage", choices=("build", "ask"), help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    if options.stage:
        measure = measured_build if options.stage == "build" else measured_queries
        print(json.dumps(measure(options.folder, options.engine)))
        return
    engines = [engine for engine in options.engines if find_spec(NEEDS.get(engine, "numpy"))]
    for count in options.passages:
        parent = options.folder or Path(tempfile.mkdtemp(prefix="bm25-"))
        folder = parent / str(count)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            compare(folder, count, engines, options.queries, options.reference_queries)
        finally:
            if options.folder is None:
                shutil.rmtree(parent, ignore_errors=True)
    if options.plot is not None and options.folder is not None:
        draw_plot(options.folder, options.plot)


if __name__ == "__main__":
    main()
