"""`stepsearch serve-search` as a process on loopback, asked as Search-R1's and verl's clients ask."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_server import Server, running

from stepsearch.cli.main import main
from stepsearch.data import KnowledgeBase
from stepsearch.search import BM25SearchEngine
from stepsearch.types import Passage

SLOW_SERVER = """
import sys, tempfile, time
from functools import partial
from pathlib import Path
from stepsearch.config import SearchSettings
from stepsearch.search import BM25SearchEngine, SearchEngine
from stepsearch.serving import AppFactory, ServerSettings, listen, serve

class Slow(SearchEngine):
    def __init__(self, folder):
        self.engine = BM25SearchEngine.open(folder)

    def search(self, query, top_k=3):
        return self.engine.search(query, top_k)

    def search_batch(self, queries, top_k=3):
        while any("slow" in query for query in queries) and not Path(sys.argv[3]).exists():
            time.sleep(0.01)
        return super().search_batch(queries, top_k)

if __name__ == "__main__":
    listener = listen("127.0.0.1", 0)
    print(f"serving on http://127.0.0.1:{listener.getsockname()[1]} ", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        build = partial(Slow, Path(sys.argv[2]))
        factory = AppFactory(build, SearchSettings(engine_type="slow"), ServerSettings(max_batch=4), Path(folder))
        serve(factory, listener, workers=int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def knowledge_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "corpus"
    passages = [Passage(f"{n}", f"The film was directed by person {n}.\nIt is long.", f"Film {n}") for n in range(50)]
    KnowledgeBase.create(folder, passages)
    BM25SearchEngine.build(folder)
    return folder


@pytest.fixture(scope="module")
def server(knowledge_base: Path) -> Generator[Server]:
    flags = ["--port", "0", "--knowledge-base", str(knowledge_base), "search.top_k=2"]
    with running("-m", "stepsearch.cli.main", "serve-search", *flags) as server:
        yield server


def search_r1_batch_search(server: Server, queries: list[str], topk: int) -> list[str]:
    """Ask and read as Search-R1's `LLMGenerationManager.batch_search` does."""
    payload = {"queries": queries, "topk": topk, "return_scores": True}
    strings = []
    for result in server.post(payload).json()["result"]:
        reference = ""
        for number, item in enumerate(result, start=1):
            title, *text = item["document"]["contents"].split("\n")
            reference += f"Doc {number}(Title: {title}) {chr(10).join(text)}\n"
        strings.append(reference)
    return strings


def test_search_r1s_client(server: Server) -> None:
    found = search_r1_batch_search(server, ["film 7", "person 31", "", "zzz"], topk=1)
    assert found == [
        'Doc 1(Title: "Film 7") The film was directed by person 7.\nIt is long.\n',
        'Doc 1(Title: "Film 31") The film was directed by person 31.\nIt is long.\n',
        "",
        "",
    ]


def test_search_r1s_whole_rollout_in_one_request(server: Server) -> None:
    queries = [f"film {number % 50} {number}" for number in range(2560)]
    assert len(search_r1_batch_search(server, queries, topk=3)) == 2560


def verl_call(server: Server, queries: list[str], retries: int = 3) -> dict[str, Any]:
    """Ask as verl's `call_search_api` does: again after 500, 502, 503 and 504, not after any other error."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    payload = {"queries": queries, "topk": 3, "return_scores": True}
    for _ in range(retries):
        response = server.post(payload, headers=headers)
        if response.status_code not in (500, 502, 503, 504):
            response.raise_for_status()
            return response.json()
        time.sleep(0.5)
    raise AssertionError(f"still {response.status_code}")


def test_verls_client(server: Server) -> None:
    found = verl_call(server, ["film 7"]).get("result", [])
    assert len(found[0]) == 3
    contents = found[0][0]["document"]["contents"].split("\n")
    assert contents == ['"Film 7"', "The film was directed by person 7.", "It is long."]
    assert found[0][0]["score"] > found[0][1]["score"]


def test_both_shapes_and_the_default_number(server: Server) -> None:
    scored = server.post({"queries": ["film 7"], "topk": None, "return_scores": True}).json()["result"]
    plain = server.post({"queries": ["film 7"]}).json()["result"]
    assert [set(item) for item in scored[0]] == [{"document", "score"}] * 2
    assert plain == [[item["document"] for item in scored[0]]]
    assert plain[0][0] == {"id": "7", "contents": '"Film 7"\nThe film was directed by person 7.\nIt is long.'}


def test_it_says_where_it_is_and_how_to_ask(server: Server, knowledge_base: Path) -> None:
    assert f"search: bm25, knowledge base {knowledge_base}, 2 documents a query" in server.said
    assert re.search(r"serving on http://127\.0\.0\.1:\d+ with 1 worker;", server.said)
    curl = server.process.stdout.readline()  # type: ignore[union-attr]
    body = re.search(rf"curl {server.url}/retrieve -d '(.*)'", curl)[1]  # type: ignore[index]
    assert server.post(json.loads(body)).status_code == 200


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\xff\x00\r\n\r\n",
        b"POST /retrieve HTTP/9.9\r\n\r\n",
        b"GET " + b"x" * 200_000,
        b"GET / HTTP/1.1\r\nName: " + b"x" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"Name: x\r\n" * 20_000,
    ],
)
def test_what_is_no_http_is_refused_and_breaks_nothing(server: Server, nonsense: bytes) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    # The server may close before all is sent.
    with suppress(ConnectionError), socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(nonsense)
        assert connection.recv(100)[:12] in (b"", b"HTTP/1.1 400")
    assert server.post({"queries": ["film 7"]}).status_code == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_answer_equally_and_sigterm_finishes_what_they_accepted(
    tmp_path: Path, knowledge_base: Path, workers: int
) -> None:
    script = tmp_path / "slow_server.py"
    script.write_text(SLOW_SERVER, encoding="utf-8")
    release = tmp_path / "release"
    with (
        running(str(script), str(workers), str(knowledge_base), str(release)) as server,
        ThreadPoolExecutor(12) as pool,
    ):
        queries = [f"film {number}" for number in range(40)]
        answers = list(pool.map(lambda query: server.post({"queries": [query]}), queries))
        assert [ids(answer) for answer in answers] == expected_ids(knowledge_base, queries)
        assert server.metric('requests_total{status="200"}') == 40

        slow = [f"slow film {number}" for number in range(12)]
        pending = [pool.submit(server.post, {"queries": [query]}) for query in slow]
        deadline = time.monotonic() + 20
        while server.metric("open_requests") < 12:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        while server.is_listening():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        release.touch()
        assert [ids(future.result()) for future in pending] == expected_ids(knowledge_base, slow)
        assert server.process.wait(20) == 0


BROKEN_SERVER = """
import tempfile
from pathlib import Path
from stepsearch.config import SearchSettings
from stepsearch.errors import SearchError
from stepsearch.serving import AppFactory, ServerSettings, listen, serve

def build():
    raise SearchError("the index is gone")

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        serve(AppFactory(build, SearchSettings(), ServerSettings(), Path(folder)), listen("127.0.0.1", 0), workers=2)
"""


def test_workers_that_cannot_start_end_the_server(tmp_path: Path) -> None:
    script = tmp_path / "broken_server.py"
    script.write_text(BROKEN_SERVER, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "error: the index is gone" in done.stderr
    assert "SearchError: a worker could not build the search engine" in done.stderr.splitlines()[-1]


def ids(answer: httpx.Response) -> list[str]:
    (found,) = answer.json()["result"]
    return [document["id"] for document in found]


def expected_ids(knowledge_base: Path, queries: list[str]) -> list[list[str]]:
    engine = BM25SearchEngine.open(knowledge_base)
    return [[passage.id for passage in engine.search(query, 3)] for query in queries]


def test_mistakes_are_named_before_anything_listens(
    server: Server, knowledge_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = server.url.rpartition(":")[2]
    for flags, message in (
        (["--knowledge-base", "/nowhere"], "knowledge base /nowhere is not there"),
        (["--knowledge-base", str(knowledge_base), "--port", port], f"cannot listen on port {port} of 127.0.0.1"),
        (
            ["--knowledge-base", str(knowledge_base), "--port", "99999"],
            "port 99999 is no port: choose a --port up to 65535",
        ),
        (["--knowledge-base", str(knowledge_base), "--max-queries", "99999"], "max_queries (99999) is more than max_w"),
    ):
        assert main(["serve-search", *flags]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert message in said.err


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell what a process has loaded")
def test_serving_loads_no_torch(server: Server) -> None:
    loaded = Path(f"/proc/{server.process.pid}/maps").read_text(encoding="utf-8")
    assert "numpy" in loaded
    assert "torch" not in loaded
