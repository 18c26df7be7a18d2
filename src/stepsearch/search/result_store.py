"""A bounded table of search results in one SQLite file, which several processes may use at the same time."""

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path

from stepsearch.errors import SearchError
from stepsearch.types import Passage

logger = logging.getLogger(__name__)

FILE = "results.sqlite3"
# How long another process's write is waited for.
BUSY_SECONDS = 30.0
_KEYS_PER_QUERY = 500
_TABLE = (
    "CREATE TABLE IF NOT EXISTS results "
    "(position INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, passages TEXT NOT NULL)"
)
_OLDEST = "DELETE FROM results WHERE position <= (SELECT max(position) FROM results) - ?"


class ResultStore:
    """Keeps the passages that were found under a key; of too many the oldest go.

    Whoever fails to read or write it while a run goes on is told by a warning, and goes on without: a cache is no
    reason to end a run. Safe to use from several threads and processes.

    Args:
        folder: made if it is not there.
        entries: how many results are kept at most.

    Raises:
        SearchError: the folder or its file cannot be used.
    """

    def __init__(self, folder: Path, entries: int) -> None:
        self._path = folder / FILE
        self._entries = entries
        self._lock = threading.Lock()
        self._inherited: list[sqlite3.Connection] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection, self._owner = _connect(self._path), os.getpid()
        except (OSError, sqlite3.Error) as error:
            raise SearchError(
                f"the search cache {self._path} cannot be used ({error}): delete it, name another folder with "
                "search.cache_dir=DIR, or turn it off with search.cache_entries=0"
            ) from None

    def read(self, keys: Sequence[bytes]) -> dict[bytes, list[Passage]]:
        """Return what is kept under those of the keys that are there."""
        found: dict[bytes, list[Passage]] = {}
        try:
            with self._lock:
                for start in range(0, len(keys), _KEYS_PER_QUERY):
                    some = keys[start : start + _KEYS_PER_QUERY]
                    marks = ",".join("?" * len(some))
                    rows = self._own().execute(f"SELECT key, passages FROM results WHERE key IN ({marks})", some)
                    found.update((key, _decode(passages)) for key, passages in rows)
        except (sqlite3.Error, ValueError, TypeError) as error:
            logger.warning("the search cache %s cannot be read: %s", self._path, error)
        return found

    def write(self, results: Mapping[bytes, Sequence[Passage]]) -> None:
        """Keep results, all or none of them; what is kept under a key already stays."""
        rows = [(key, _encode(passages)) for key, passages in results.items()]
        try:
            with self._lock:
                connection = self._own()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    connection.executemany("INSERT OR IGNORE INTO results (key, passages) VALUES (?, ?)", rows)
                    connection.execute(_OLDEST, (self._entries,))
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            logger.warning("the search cache %s cannot be written: %s", self._path, error)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self._lock:
            self._connection.close()

    def _own(self) -> sqlite3.Connection:
        """Return this process's connection: one that came through a fork must be neither used nor closed."""
        if self._owner != os.getpid():
            self._inherited.append(self._connection)
            self._connection, self._owner = _connect(self._path), os.getpid()
        return self._connection


def _connect(path: Path) -> sqlite3.Connection:
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            # Readers and a writer do not wait for each other, and a crash loses the last results at worst.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_TABLE)
        except sqlite3.Error as error:
            connection.close()
            # The change to WAL fails at once where another process makes it too.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return connection


def _encode(passages: Sequence[Passage]) -> str:
    return json.dumps([astuple(passage) for passage in passages])


def _decode(text: str) -> list[Passage]:
    return [Passage(*fields) for fields in json.loads(text)]
