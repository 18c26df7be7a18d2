"""A real HTTP server on loopback that speaks OpenAI's chat completions, and can be told to misbehave."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
PROMPT_TOKENS, COMPLETION_TOKENS = 100, 20


@dataclass
class Fault:
    """What happens to one request instead of an answer.

    `kind` is `status` (with an OpenAI error body), `silence` (nothing for `seconds`), `drop` (the connection closes
    without a word), `cut` (the body ends before its announced length), `half_json` (a whole body of half a JSON text),
    or `say` (a proper completion whose content is `text`).
    """

    kind: str
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    error: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0.0
    text: str = ""


class ChatServer:
    """Answers every request with what `answer` makes of its body, but for those that `faults` are waiting for.

    `requests` holds the bodies in the order of arrival, `answered` counts those that got a whole completion, and
    `most_at_once` is how many were under way together at most. Each completion is said to cost 100 prompt tokens and
    20 of completion, and takes `delay` seconds once `quick_first` are answered.
    """

    def __init__(self, answer: Callable[[Body], str], delay: float = 0.0) -> None:
        self.answer = answer
        self.delay = delay
        self.quick_first = 0
        self.faults: deque[Fault] = deque()
        self.requests: list[Body] = []
        self.arrivals: list[float] = []
        self.answered = 0
        self.most_at_once = 0
        self.dies_after: int | None = None
        self.counts_tokens = True
        self._at_once = 0
        self._lock = threading.Lock()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        """Listen, on the same port as before."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that went away is no news."""

        self._server = Server(("127.0.0.1", self._port), self._handler())
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections until `start`."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _admit(self, body: Body) -> Fault | None:
        with self._lock:
            self.requests.append(body)
            self.arrivals.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return self.faults.popleft() if self.faults else None

    def _let_go(self) -> None:
        with self._lock:
            self._at_once -= 1

    def _release(self, answered: bool) -> None:
        with self._lock:
            self.answered += answered
            dies = self.dies_after is not None and self.answered >= self.dies_after
            if dies:
                self.dies_after = None
        if dies:
            threading.Thread(target=self.stop, daemon=True).start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fault = server._admit(body)
                self._is_under_way = True
                try:
                    if self.path != "/v1/chat/completions":
                        self._send(404, {"error": {"message": f"no {self.path} here"}})
                    elif fault is None or fault.kind == "say":
                        time.sleep(server.delay if server.answered >= server.quick_first else 0.0)
                        values = completion(server.answer(body) if fault is None else fault.text)
                        self._send(200, values if server.counts_tokens else {**values, "usage": None})
                    else:
                        self._misbehave(fault)
                finally:
                    self._end()
                    server._release(fault is None or fault.kind == "say")

            def _end(self) -> None:
                if self._is_under_way:
                    self._is_under_way = False
                    server._let_go()

            def _misbehave(self, fault: Fault) -> None:
                time.sleep(fault.seconds)
                if fault.kind == "status":
                    self._send(fault.status, {"error": {"message": "told to", **fault.error}}, fault.headers)
                elif fault.kind == "cut":
                    raw = json.dumps(completion("lost")).encode()
                    self._write(200, raw[: len(raw) // 2], {"Content-Length": str(len(raw))})
                elif fault.kind == "half_json":
                    raw = json.dumps(completion("lost")).encode()[:60]
                    self._write(200, raw, {"Content-Length": str(len(raw))})
                self.close_connection = True

            def _send(self, status: int, values: Body, headers: Mapping[str, str] = {}) -> None:
                raw = json.dumps(values).encode()
                self._write(status, raw, {"Content-Length": str(len(raw)), **headers})

            def _write(self, status: int, raw: bytes, headers: Mapping[str, str]) -> None:
                # Whoever reads the reply may ask again at once.
                self._end()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        return Handler


def completion(text: str, finish_reason: str = "stop") -> Body:
    """Return a chat completion as OpenAI's endpoint writes it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": COMPLETION_TOKENS,
            "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
    }


def last_user_message(body: Body) -> str:
    """Return what the user said last."""
    return next(message["content"] for message in reversed(body["messages"]) if message["role"] == "user")
