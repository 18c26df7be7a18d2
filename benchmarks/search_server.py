"""Requests per CPU-second of the search server beside Search-R1's server logic, over the same engine in one run.

    OMP_NUM_THREADS=1 python benchmarks/search_server.py --passages 20000 --repeats 5
    OMP_NUM_THREADS=1 python benchmarks/search_server.py --soak 180
    OMP_NUM_THREADS=1 python benchmarks/search_server.py --malformed 10000
    OMP_NUM_THREADS=1 JAVA_HOME=DIR python benchmarks/search_server.py --passages 100000 \
        --search-r1 CLONE --pyserini-python PYTHON

Each side is uvicorn with the same protocol and event loop, in its own process, without an access log. Search-R1's
logic is a FastAPI route that reads the request with pydantic, asks the engine once for it, blocking in a thread of the
pool, and returns dictionaries. Sides alternate; a ratio is of neighbours.

Loads: 64 clients that ask for one query each, over and over, and 4 clients that ask for 256 at once; queries of 4 words
from a Zipf-like vocabulary, hardly ever the same one. Processor time is the server process's, as the operating system
counts it, so that other load on the machine and the clients' own work stay out of it; latencies do depend on them.

With `--search-r1` the program search_r1/search/retrieval_server.py of a clone of Search-R1 is a third side, as it is
but for its port, over the Lucene index that its index_builder.py has Pyserini make. PYTHON is that of an environment
with pyserini, faiss-cpu, datasets, fastapi and uvicorn, JAVA_HOME a Java of version 21 or newer.

The soak asks one server, with what is malformed or too much mixed in, and prints its resident memory as it goes on.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import fastapi
import numpy as np
import psutil
import uvicorn
from pydantic import BaseModel

from knowledge_base_open import build, draw_texts
from stepsearch.config import SearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.search import BM25SearchEngine
from stepsearch.serving import AppFactory, ServerSettings, listen, serve

TOP_K, QUERY_WORDS, DISTINCT_QUERIES = 3, 4, 8_192
# A Java machine compiles what it runs often: Search-R1's server took twice as long for its first 20,000 queries.
WARM_UP_QUERIES = 30_720
OURS, THEIRS, SHIPPED = "stepsearch", "search-r1", "as shipped"
# Importing Pyserini makes a client for models that are not used here.
PYSERINI = {"OPENAI_API_KEY": "unused"}
# Search-R1's program listens at a fixed port, on all interfaces.
LAUNCH = """
import runpy, sys, uvicorn
port, program = int(sys.argv[1]), sys.argv[2]
run = uvicorn.run
uvicorn.run = lambda app, **ignored: run(app, host="127.0.0.1", port=port)
sys.argv = sys.argv[2:]
runpy.run_path(program, run_name="__main__")
"""


class QueryRequest(BaseModel):
    queries: list[str]
    topk: int | None = None
    return_scores: bool = False


def search_r1_app(engine: BM25SearchEngine) -> fastapi.FastAPI:
    """Return an application that answers as Search-R1's server does."""
    app = fastapi.FastAPI()

    @app.post("/retrieve")
    def retrieve(request: QueryRequest) -> dict[str, Any]:
        results = engine.search_batch(request.queries, request.topk or TOP_K)
        answer: list[Any] = []
        for found in results:
            documents = [{"id": one.id, "contents": f'"{one.title}"\n{one.text}'} for one in found]
            if request.return_scores:
                scored = zip(documents, found, strict=True)
                answer.append([{"document": document, "score": one.score} for document, one in scored])
            else:
                answer.append(documents)
        return {"result": answer}

    return app


def run_server(side: str, folder: Path) -> None:
    """Serve a knowledge base until stopped; the port is the first line of the output."""
    listener = listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    if side == THEIRS:
        config = uvicorn.Config(search_r1_app(BM25SearchEngine.open(folder)), log_config=None, access_log=False)
        uvicorn.Server(config).run([listener])
        return
    with tempfile.TemporaryDirectory() as metrics:
        search = SearchSettings(engine_type="bm25")
        serve(AppFactory(lambda: BM25SearchEngine.open(folder), search, ServerSettings(), Path(metrics)), listener)


@dataclass
class Server:
    process: psutil.Process
    port: int

    def cpu_seconds(self) -> float:
        times = self.process.cpu_times()
        return times.user + times.system


@dataclass(frozen=True)
class Shipped:
    """Search-R1 as it comes: its clone, and the Python of an environment with Pyserini."""

    clone: Path
    python: Path

    def index(self, folder: Path) -> None:
        """Write the corpus as Search-R1 has it, and have Pyserini index it as Search-R1's index_builder.py does."""
        (folder / "lucene-input").mkdir()
        with (folder / "lucene-input" / "corpus.jsonl").open("w", encoding="utf-8") as file:
            for number, passage in enumerate(KnowledgeBase.open(folder)):
                contents = f'"{passage.title}"\n{passage.text}'
                file.write(json.dumps({"id": str(number), "contents": contents}) + "\n")
        options = ["--collection", "JsonCollection", "--generator", "DefaultLuceneDocumentGenerator", "--threads", "1"]
        options += ["--input", str(folder / "lucene-input"), "--index", str(folder / "lucene")]
        program = [self.python, "-m", "pyserini.index.lucene", *options]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL, env=os.environ | PYSERINI)

    def command(self, folder: Path, port: int) -> list[str]:
        """Return what starts the server."""
        program = self.clone / "search_r1" / "search" / "retrieval_server.py"
        options = ["--index_path", str(folder / "lucene"), "--retriever_name", "bm25", "--topk", str(TOP_K)]
        options += ["--corpus_path", str(folder / "lucene-input" / "corpus.jsonl")]
        return [str(self.python), "-c", LAUNCH, str(port), str(program), *options]


@contextmanager
def running(side: str, folder: Path, shipped: Shipped | None = None) -> Generator[Server]:
    """Start a server in a process of its own, and stop it."""
    if shipped is not None and side == SHIPPED:
        with listen("127.0.0.1", 0) as free:
            port = free.getsockname()[1]
        quiet = os.environ | PYSERINI | {"HF_HOME": str(folder / "huggingface"), "HF_HUB_OFFLINE": "1"}
        silent = subprocess.DEVNULL
        with subprocess.Popen(shipped.command(folder, port), stdout=silent, stderr=silent, env=quiet) as process:
            wait_for(port, process)
            yield Server(psutil.Process(process.pid), port)
            process.terminate()
        return
    command = [sys.executable, __file__, "--serve", side, "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Server(psutil.Process(process.pid), int(process.stdout.readline()))
        process.terminate()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server listens."""
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    raise SystemExit(f"the server ended with {process.returncode}: {process.args}")


def request(queries: list[str]) -> bytes:
    """Return a whole HTTP request."""
    return post(json.dumps({"queries": queries, "topk": TOP_K, "return_scores": True}).encode())


def post(body: bytes) -> bytes:
    """Return a whole HTTP request with that body."""
    head = "POST /retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(port: int, requests: Iterator[bytes], latencies: list[float], statuses: Counter[int]) -> None:
    """Send requests over one connection, one after the other; note how long each took and how it was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for content in requests:
        started = time.perf_counter()
        writer.write(content)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]))
        latencies.append(time.perf_counter() - started)
        statuses[int(head[9:12])] += 1
        if b"connection: close" in head.lower():
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


@dataclass
class Load:
    """So many clients that ask for so many queries at a time, so often."""

    clients: int
    queries: int
    requests: int

    def contents(self, queries: Iterator[str]) -> list[list[bytes]]:
        """Return what each client sends."""
        count = self.requests // self.clients
        return [
            [request([next(queries) for _ in range(self.queries)]) for _ in range(count)] for _ in range(self.clients)
        ]


def measure(server: Server, load: Load, queries: Iterator[str]) -> dict[str, float]:
    """Return requests per CPU-second of the server, and latencies in milliseconds."""
    contents = load.contents(queries)
    latencies: list[float] = []
    statuses: Counter[int] = Counter()

    async def all_clients() -> None:
        await asyncio.gather(*(ask(server.port, iter(own), latencies, statuses) for own in contents))

    before = server.cpu_seconds()
    asyncio.run(all_clients())
    used = server.cpu_seconds() - before
    assert statuses == {200: len(latencies)}, statuses
    p50, p99 = np.percentile(1000 * np.array(latencies), [50, 99])
    return {"requests per CPU-s": len(latencies) / used, "p50 ms": p50, "p99 ms": p99}


def compare(folder: Path, load: Load, repeats: int, shipped: Shipped | None) -> None:
    """Print one table: all sides, and how many times as much ours does."""
    drawn = list(draw_texts(np.random.default_rng(1), DISTINCT_QUERIES, QUERY_WORDS))
    queries = cycle(drawn)
    names = [OURS, THEIRS] if shipped is None else [OURS, THEIRS, SHIPPED]
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with ExitStack() as stack:
        sides = {name: stack.enter_context(running(name, folder, shipped)) for name in names}
        for side in sides.values():
            measure(side, Load(4, 256, WARM_UP_QUERIES // 256), queries)
            measure(side, Load(load.clients, load.queries, max(load.requests // 4, load.clients)), queries)
        for _ in range(repeats):
            for name, side in sides.items():
                measured[name].append(measure(side, load, queries))
    print(f"\n{load.clients} clients, {load.queries} queries a request, {load.requests} requests")
    print(f"{'':11} {'':18}  {'min':>9}  {'median':>9}  {'max':>9}")
    for name, runs in measured.items():
        for figure in runs[0]:
            print_row(name, figure, [run[figure] for run in runs])
    figure = "requests per CPU-s"
    for name in names[1:]:
        pairs = zip(measured[OURS], measured[name], strict=True)
        print_row("ratio to", name, [one[figure] / other[figure] for one, other in pairs])


def print_row(name: str, figure: str, values: list[float]) -> None:
    """Print smallest, median and largest value."""
    print(f"{name:11} {figure:18}  {min(values):9.2f}  {median(values):9.2f}  {max(values):9.2f}", flush=True)


def broken_requests(seed: int) -> Iterator[bytes]:
    """Yield requests that are malformed or ask for too much."""
    draw = random.Random(seed)
    broken = [post(b"{"), post(b'{"queries": 1}'), post(b'{"queries": ["a"], "topk": 1000}'), post(b"\xff" * 100)]
    broken.append(post(json.dumps({"queries": ["x" * 20_000]}).encode()))
    while True:
        # Some are like one of these, others of any bytes.
        yield draw.choice(broken) if draw.random() < 0.5 else post(draw.randbytes(draw.randrange(200)))


def odd_requests(queries: Iterator[str], seed: int, until: float) -> Iterator[bytes]:
    """Yield requests until it is time: most are fine, some are malformed or ask for too much."""
    draw, broken = random.Random(seed), broken_requests(seed)
    while time.perf_counter() < until:
        size = draw.choice([1] * 20 + [16, 256])
        yield next(broken) if draw.random() < 0.1 else request([next(queries) for _ in range(size)])


def malformed(folder: Path, count: int, clients: int) -> None:
    """Print how a server answers requests none of which is right, and whether it answers a right one then."""
    statuses: Counter[int] = Counter()

    async def asked(port: int) -> None:
        wrong = [islice(broken_requests(seed), count // clients) for seed in range(clients)]
        await asyncio.gather(*(ask(port, source, [], statuses) for source in wrong))
        await ask(port, iter([request(["a"])]), [], statuses)

    with running(OURS, folder) as server:
        asyncio.run(asked(server.port))
    print("answers by status:", dict(sorted(statuses.items())))


def soak(folder: Path, seconds: float, clients: int) -> None:
    """Print a server's memory, files and answers while it is asked."""
    queries = cycle(draw_texts(np.random.default_rng(2), DISTINCT_QUERIES, QUERY_WORDS))
    latencies: list[float] = []
    statuses: Counter[int] = Counter()

    async def asked(server: Server) -> None:
        started = time.perf_counter()
        sources = [odd_requests(queries, seed, started + seconds) for seed in range(clients)]
        work = asyncio.gather(*(ask(server.port, source, latencies, statuses) for source in sources))
        while not work.done():
            await asyncio.wait([work], timeout=seconds / 12)
            memory = server.process.memory_info().rss / 1024**2
            passed, files = time.perf_counter() - started, server.process.num_fds()
            print(
                f"{passed:7.0f} s  {memory:8.1f} MB  {files:4} files  {sum(statuses.values()):9} requests", flush=True
            )
        await work

    with running(OURS, folder) as server:
        asyncio.run(asked(server))
    print("answers by status:", dict(sorted(statuses.items())))


def main() -> None:
    """Build a corpus, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=3_200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="ask one server for so long instead")
    parser.add_argument("--malformed", type=int, metavar="REQUESTS", help="send one server so many wrong requests")
    parser.add_argument("--search-r1", type=Path, metavar="CLONE", help="ask Search-R1's own server too")
    parser.add_argument("--pyserini-python", type=Path, metavar="PYTHON", help="what it runs in")
    parser.add_argument("--serve", choices=(OURS, THEIRS), help="be that server, in this process")
    parser.add_argument("--folder", type=Path, help="with a knowledge base that is there already")
    options = parser.parse_args()
    if options.serve:
        run_server(options.serve, options.folder)
        return
    installed = [name for name in ("httptools", "uvloop") if importlib.util.find_spec(name)]
    print(f"Python {platform.python_version()}, fastapi {fastapi.__version__}, uvicorn {uvicorn.__version__}", end="")
    print(f" with {' and '.join(installed) or 'h11 and asyncio'}; {options.passages} passages")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "knowledge_base"
        build(folder, options.passages)
        if options.malformed:
            malformed(folder, options.malformed, clients=64)
            return
        if options.soak:
            soak(folder, options.soak, clients=64)
            return
        shipped = Shipped(options.search_r1, options.pyserini_python) if options.search_r1 else None
        if shipped is not None:
            shipped.index(folder)
        compare(folder, Load(64, 1, options.requests), options.repeats, shipped)
        compare(folder, Load(4, 256, max(options.requests // 80, 4)), options.repeats, shipped)


if __name__ == "__main__":
    main()
