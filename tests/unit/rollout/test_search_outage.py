"""A search server that is killed in the middle of a rollout, and comes back."""

import socket
import subprocess
import sys
import time

import pytest

from stepsearch.config import RolloutSettings
from stepsearch.rollout import RolloutRunner
from stepsearch.search import GuardedSearch, RemoteSearchEngine
from stepsearch.search.patient_http import Patience
from stepsearch.types import Question, StopReason

SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        documents = [{"id": query, "contents": f"about {query}"} for query in asked["queries"]]
        body = json.dumps({"result": [[{"document": document, "score": 1.0}] for document in documents]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
PAUSE_SECONDS = 0.2


class Server:
    """A /retrieve server in a process of its own, so that it can be killed like one."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, str(self.port)])
        while not self.listens():
            assert self.process.poll() is None
            time.sleep(0.02)

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.kill()


def test_the_rollout_goes_on_and_recovers(server, spelled_tokenizer, scripted_engine):
    """Four episodes of four searches each. Injected: SIGKILL after the first searches, a new server after the second.

    Lost: the four searches asked in between, one of each episode. Everything else, episodes included, is whole.
    """
    episodes, searches = 4, 4
    scripts = {
        episode: [f"<search>{episode}{step}</search>" for step in "abcd"] + [f"<answer>{episode}</answer>"]
        for episode in range(episodes)
    }
    patience = Patience(
        timeout_seconds=5, retries=1, backoff_seconds=0.01, circuit_failures=1, circuit_pause_seconds=PAUSE_SECONDS
    )
    engine = RemoteSearchEngine(f"http://127.0.0.1:{server.port}/retrieve", patience)
    search = GuardedSearch(engine)
    runner = RolloutRunner(
        scripted_engine(spelled_tokenizer, scripts),
        spelled_tokenizer,
        search,
        RolloutSettings(max_turn_tokens=80, max_observation_tokens=60, max_passage_tokens=40),
        max_length=900,
        max_search_steps=searches,
        search_top_k=1,
    )
    killed = restarted = False

    def disturb(event):
        nonlocal killed, restarted
        if event.kind == "documents" and not killed:
            server.kill()
            killed = True
        elif event.kind == "documents" and killed and not restarted and not event.passages:
            server.start()
            time.sleep(PAUSE_SECONDS)  # From here on the circuit lets a request through again.
            restarted = True

    questions = [Question(str(episode), f"Who wrote {episode}?", ("x",)) for episode in range(episodes)]
    trajectories = runner.run(questions, seeds=range(episodes), on_event=disturb)
    search.close()

    assert restarted
    assert [trajectory.stop_reason for trajectory in trajectories] == [StopReason.ANSWERED] * episodes
    assert [trajectory.answer for trajectory in trajectories] == ["0", "1", "2", "3"]
    for trajectory in trajectories:
        assert [step.failed for step in trajectory.steps] == [False, True, False, False]
        for step in trajectory.steps:
            texts = [] if step.failed else [f"about {step.query}"]
            assert [passage.text for passage in step.passages] == texts
    statistics = search.take_statistics()
    assert (statistics.queries, statistics.failures, statistics.cache_hits) == (16, 4, 0)
