"""Replies that are paid for, on disk, so that no request is ever paid twice."""

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

from stepsearch.chat_endpoint.messages import ChatReply
from stepsearch.errors import DataError

_START = b'{"key": "'


class ReplyCache:
    """An append-only file of JSON lines, one reply each, by the hash of its request.

    A line is written by one system call: threads and processes may share the file, and a run that is killed leaves at
    most its last line torn, which is skipped. Without a path it lives in memory.

    Args:
        path: the file; it and its folder are made when the first reply is kept.

    Raises:
        DataError: the file cannot be read, or is no cache of replies.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._replies: dict[str, ChatReply] = {}
        self._file: int | None = None
        self._lock = threading.Lock()
        self._needs_newline = False
        if path is not None and path.exists():
            self._read(path)

    def __len__(self) -> int:
        return len(self._replies)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def get(self, key: str) -> ChatReply | None:
        """Return the reply to a request that was paid for, None if it never was."""
        return self._replies.get(key)

    def put(self, key: str, reply: ChatReply) -> None:
        """Keep a reply.

        Raises:
            DataError: the file cannot be written.
        """
        entry = {"key": key, **asdict(reply)}
        del entry["cached"]
        with self._lock:
            self._replies[key] = replace(reply, cached=True)
            if self._path is not None:
                # ASCII escapes hold half characters, which models do write, and UTF-8 does not.
                self._append(self._path, json.dumps(entry).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, path: Path, line: bytes) -> None:
        try:
            if self._file is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            line = b"\n" + line if self._needs_newline else line
            written = os.write(self._file, line)
        except OSError as error:
            raise DataError(f"the cache {path} cannot be written: {error.strerror}") from None
        self._needs_newline = written < len(line)
        if self._needs_newline:
            raise DataError(f"the cache {path} cannot be written: the disk is full")

    def _read(self, path: Path) -> None:
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DataError(f"the cache {path} cannot be read: {error.strerror}") from None
        self._needs_newline = bool(raw) and not raw.endswith(b"\n")
        for number, line in enumerate(raw.split(b"\n"), start=1):
            if not line.startswith(_START[: len(line)]):
                raise DataError(f"{path}, line {number} is no reply: the file is no cache, name another one")
            with suppress(ValueError, TypeError, KeyError):
                entry = json.loads(line)
                key = entry.pop("key")
                self._replies[key] = ChatReply(**entry, cached=True)
