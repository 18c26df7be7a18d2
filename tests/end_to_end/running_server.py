"""A server of the project as a process on loopback."""

import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass
class Server:
    process: subprocess.Popen[str]
    url: str
    said: str
    client: httpx.Client

    def post(self, body: Any, **settings: Any) -> httpx.Response:
        return self.client.post(f"{self.url}/retrieve", json=body, **settings)

    def is_listening(self) -> bool:
        """Return whether a new connection is answered."""
        try:
            return self.client.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def metric(self, name: str) -> float:
        """Return a number of /metrics, 0 while nobody answers."""
        try:
            text = self.client.get(f"{self.url}/metrics").text
        except httpx.TransportError:
            return 0.0
        return float(re.search(rf"^stepsearch_search_{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


@contextmanager
def running(*command: str) -> Generator[Server]:
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        said = ""
        while "serving on" not in said:
            line = process.stdout.readline()  # type: ignore[union-attr]
            assert line, f"it ended after saying: {said}"
            said += line
        with httpx.Client(timeout=30) as client:
            yield Server(process, re.search(r"http://\S+", said)[0], said, client)  # type: ignore[index]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
