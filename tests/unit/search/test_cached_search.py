"""Results kept on disk: what is asked, what is kept, what is thrown out, and who may share them."""

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from stepsearch.config import SearchSettings
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import SearchError
from stepsearch.search import BM25SearchEngine, CachedSearchEngine, MockSearchEngine, SearchEngine, build_search_engine
from stepsearch.search.engine_identity import engine_identity
from stepsearch.search.result_store import FILE, ResultStore
from stepsearch.types import Passage


class Batched(SearchEngine):
    """Finds one passage, notes what it was asked, and fails for "x"."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        return self.search_batch([query], top_k)[0]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        self.batches.append(list(queries))
        if "x" in queries:
            raise SearchError("cannot ask for x")
        return [[Passage(f"id-{query}", f"about {query} é", "Title", 1 / 3)] for query in queries]


class Single(SearchEngine):
    """Takes one query at a time, and fails for "x"."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def search(self, query: str, top_k: int = 3) -> list[str]:
        self.asked.append(query)
        if query == "x":
            raise SearchError("cannot ask for x")
        return [f"about {query}"]


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path):
    """Opens cached engines over one folder, and closes them in the end."""

    def open_cache(engine: SearchEngine, identity: str = "corpus", entries: int = 100) -> CachedSearchEngine:
        cached = CachedSearchEngine(engine, tmp_path / "cache", identity, entries)
        request.addfinalizer(cached.close)
        return cached

    return open_cache


def test_what_is_kept_is_not_asked_again_and_comes_back_equal(opened) -> None:
    engine = Batched()
    found = opened(engine).search_batch(["a", "b", "a"], 3)
    assert opened(engine).search_batch(["b", "c", "a"], 3) == [found[1], engine.search("c"), found[0]]
    assert engine.batches == [["a", "b"], ["c"], ["c"]]
    assert found[0] == [Passage("id-a", "about a é", "Title", 1 / 3)]


def test_top_k_and_identity_are_part_of_the_key(opened) -> None:
    engine = Batched()
    opened(engine).search("a", 3)
    opened(engine).search("a", 2)
    opened(engine, identity="another corpus").search("a", 3)
    opened(engine).search("a", 3)
    assert engine.batches == [["a"]] * 3


def test_finding_nothing_is_kept(opened) -> None:
    opened(MockSearchEngine({})).search("a")
    engine = Batched()
    assert opened(engine).search("a") == []
    assert engine.batches == []


def test_failures_are_never_kept(opened) -> None:
    engine = Batched()
    cached = opened(engine)
    for _ in range(2):
        with pytest.raises(SearchError):
            cached.search_batch(["a", "x"])
    cached.search("a")
    assert engine.batches == [["a", "x"], ["a", "x"], ["a"]]


def test_of_an_engine_that_takes_one_at_a_time_what_was_found_before_a_failure_stays(opened) -> None:
    engine = Single()
    cached = opened(engine)
    with pytest.raises(SearchError):
        cached.search_batch(["a", "b", "x", "c"])
    cached.search_batch(["a", "b", "c"])
    assert engine.asked == ["a", "b", "x", "c"]


def test_an_engine_that_answers_too_little_is_refused(opened) -> None:
    class Short(Batched):
        def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
            return []

    with pytest.raises(SearchError, match="0 results for 2 queries"):
        opened(Short()).search_batch(["a", "b"])


def test_the_oldest_go_first(opened) -> None:
    engine = Batched()
    cached = opened(engine, entries=3)
    cached.search_batch(["a", "b", "c"])
    cached.search("a")
    cached.search("d")
    engine.batches.clear()
    cached.search_batch(["b", "c", "d"])
    cached.search("a")
    assert engine.batches == [["a"]]


def test_the_file_stays_small(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, entries=50)
    for start in range(0, 3000, 100):
        store.write({f"{key}".encode(): [Passage("1", "word " * 40)] for key in range(start, start + 100)})
    assert len(store.read([f"{key}".encode() for key in range(3000)])) == 50
    store.close()
    assert (tmp_path / FILE).stat().st_size < 200_000  # 50 entries of 230 bytes, and what a transaction of 100 needed


def test_many_keys_at_once(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, entries=5000)
    keys = [f"{key}".encode() for key in range(2345)]
    store.write({key: [] for key in keys})
    assert len(store.read(keys)) == 2345
    store.close()


def test_added_documents_make_what_was_kept_count_no_more(opened) -> None:
    cached = opened(BM25SearchEngine.from_passages([Passage.from_text("The red fox.")]))
    assert len(cached.search("red")) == 1
    cached.add_documents(["A red hen."])
    assert len(cached.search("red")) == 2


WRITER = """
import sys
from pathlib import Path
from stepsearch.search.result_store import ResultStore
from stepsearch.types import Passage
store = ResultStore(Path(sys.argv[1]), entries=100_000)
for start in range(int(sys.argv[2]), int(sys.argv[2]) + 600, 5):
    keys = [str(key).encode() for key in range(start, start + 5)]
    store.write({key: [Passage(key.decode(), "text", "title", 0.5)] for key in keys})
    assert len(store.read(keys)) == 5
store.close()
"""


def test_several_processes_may_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    """Three processes, each 120 transactions of 5 results; the ranges 0–600, 300–900 and 600–1200 overlap."""
    starts = (0, 300, 600)
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", WRITER, tmp_path, str(start)], stderr=subprocess.PIPE)
        for start in starts
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert (writer.returncode, errors) == (0, b"")
    store = ResultStore(tmp_path, entries=100_000)
    kept = store.read([str(key).encode() for key in range(1200)])
    store.close()
    assert kept == {str(key).encode(): [Passage(str(key), "text", "title", 0.5)] for key in range(1200)}
    with sqlite3.connect(tmp_path / FILE) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM results").fetchone() == (1200,)
    connection.close()


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    endless = WRITER.replace("range(int(sys.argv[2]), int(sys.argv[2]) + 600, 5)", "range(0, 10**9, 5)")
    writer = subprocess.Popen([sys.executable, "-c", endless, tmp_path, "0"])
    store = ResultStore(tmp_path, entries=100_000)
    while not store.read([b"200"]):
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    kept = store.read([str(key).encode() for key in range(205)])
    assert len(kept) == 205
    store.write({b"after": []})
    assert store.read([b"after"]) == {b"after": []}
    store.close()


def test_a_forked_process_uses_a_connection_of_its_own(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from stepsearch.search.result_store import ResultStore
store = ResultStore(Path(sys.argv[1]), entries=10)
store.write({b"parent": []})
child = os.fork()
if child == 0:
    store.write({b"child": []})
    os._exit(0 if len(store.read([b"parent", b"child"])) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
assert len(store.read([b"parent", b"child"])) == 2
"""
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else " * 100)
    with pytest.raises(SearchError, match=rf"{FILE} cannot be used .*search\.cache_dir=DIR"):
        ResultStore(tmp_path, entries=10)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SearchError, match="cannot be used"):
        ResultStore(tmp_path / "file" / "cache", entries=10)


def test_a_file_damaged_while_it_is_used_costs_a_warning(opened, tmp_path: Path, caplog) -> None:
    engine = Batched()
    cached = opened(engine)
    cached.search("a")
    with sqlite3.connect(tmp_path / "cache" / FILE) as other:
        other.execute("DROP TABLE results")
    other.close()
    with caplog.at_level(logging.WARNING):
        assert cached.search("a") == engine.search("a")
    assert "cannot be read" in caplog.text
    assert "cannot be written" in caplog.text


def test_it_guards_itself_if_its_engine_does(opened) -> None:
    engine = Batched()
    assert not opened(engine).guards_itself
    engine.guards_itself = True
    assert opened(engine).guards_itself


class TestFromSettings:
    def settings(self, **values) -> SearchSettings:
        return SearchSettings.model_validate({"engine_type": "mock", **values})

    def test_a_folder_turns_it_on_and_no_entries_turn_it_off(self, tmp_path: Path) -> None:
        engine = build_search_engine(self.settings(cache_dir=str(tmp_path / "cache")))
        assert isinstance(engine, CachedSearchEngine)
        assert engine.search_batch(["q"], 1)[0][0].text == "Made-up document 1 about q."
        engine.close()
        assert (tmp_path / "cache" / FILE).is_file()
        for off in ({}, {"cache_dir": str(tmp_path), "cache_entries": 0}):
            assert isinstance(build_search_engine(self.settings(**off)), MockSearchEngine)

    def test_identity_is_what_decides_the_results(self, tmp_path: Path) -> None:
        def identity(knowledge_base: Path | None = None, **values) -> str:
            return engine_identity(self.settings(**values), knowledge_base)

        for name in ("one", "two", "again"):
            text = "The red fox." if name != "two" else "A hen."
            KnowledgeBase.create(tmp_path / name, [Passage.from_text(text)])
        remote = {"engine_type": "remote"}
        bm25 = {"engine_type": "bm25"}
        assert identity() != identity(**bm25)
        assert identity(tmp_path / "one", **bm25) == identity(tmp_path / "again", **bm25)
        assert identity(tmp_path / "one", **bm25) != identity(tmp_path / "two", **bm25)
        assert identity(**remote) != identity(**remote, remote={"url": "http://other/retrieve"})
        assert identity(**remote) == identity(**remote, remote={"batch_size": 3}, timeout_seconds=3, retries=9)

    def test_other_canned_results_have_another_identity(self, tmp_path: Path) -> None:
        canned = tmp_path / "canned.json"
        settings = self.settings(mock={"results": str(canned)})
        canned.write_text('{"q": ["a"]}')
        before = engine_identity(settings, None)
        canned.write_text('{"q": ["b"]}')
        assert engine_identity(settings, None) != before
        os.remove(canned)
        with pytest.raises(SearchError, match="cannot be read"):
            engine_identity(settings, None)
