"""Tiny real parts that several kinds of tests play episodes with, and where the genuine benchmark samples are."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Models this small only lose by threads. Set before torch is imported, and inherited by the commands that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from stepsearch.protocol import STOP_TAGS, TAGS
from stepsearch.rollout.generation import Sampling, Segment, SegmentEnd
from stepsearch.search import SearchEngine
from stepsearch.types import Passage

REAL_DATA = Path(os.environ.get("STEPSEARCH_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
SENTENCES = [
    "Who wrote the book and where was the author born?",
    "the search found <information>documents</information> about the answer",
    "<think>I need the author first</think><search>author of the book</search>",
    "<answer>Paris is the capital</answer>",
]


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(f"no genuine benchmark samples at {REAL_DATA} (set STEPSEARCH_REAL_DATA)")
    return REAL_DATA


def build_tokenizer(added: Sequence[str] = (), style: str = "question", template: str | None = None) -> Any:
    """Return a ModelTokenizer over byte-level BPE merges learnt from a few sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from stepsearch.models.tokenization import ModelTokenizer

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 3, trainer)
    hf = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    hf.chat_template = template
    hf.add_tokens(list(added))
    return ModelTokenizer(hf, style)


@pytest.fixture(scope="session")
def spelled_tokenizer() -> Any:
    """A tokenizer that spells the tags."""
    return build_tokenizer()


@pytest.fixture(scope="session")
def tagged_tokenizer() -> Any:
    """A tokenizer in which each tag is a single token."""
    return build_tokenizer(TAGS)


@pytest.fixture(scope="session")
def tokenizer_builder() -> Callable[..., Any]:
    """Builds tokenizers with other added tokens, prompt styles or templates."""
    return build_tokenizer


@pytest.fixture(scope="session")
def random_policy() -> Callable[..., Any]:
    """Builds random causal LMs whose output is far from uniform, so that errors show."""

    def build(vocabulary: int, kind: str = "Qwen2", seed: int = 0, **overrides: Any) -> Any:
        import torch
        import transformers

        torch.manual_seed(seed)
        sizes: dict[str, Any] = {
            "vocab_size": vocabulary,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "bos_token_id": None,
            "eos_token_id": 0,
            "pad_token_id": 0,
        }
        config = getattr(transformers, f"{kind}Config")(**{**sizes, **overrides})
        causal_lm = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in causal_lm.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.25)
        return causal_lm

    return build


class ScriptedEngine:
    """A GenerationEngine that plays given texts, a token of every active request per step.

    Args:
        tokenizer: encodes the texts as markup, end-of-sequence tokens included.
        scripts: per request, the text of each turn; what lies past a closed stop tag is never played.
        logprob: what every token is said to have had.
    """

    def __init__(self, tokenizer: Any, scripts: Mapping[int, Sequence[str]], logprob: float = -0.5) -> None:
        self.tokenizer = tokenizer
        self.scripts = {request: list(turns) for request, turns in scripts.items()}
        self.logprob = logprob
        self.contexts: dict[int, list[int]] = {}
        self.samplings: dict[int, list[Sampling]] = {}
        self.playing: dict[int, tuple[list[int], list[int], int]] = {}
        self.steps = 0

    def submit(self, request_id: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        known = self.contexts.get(request_id, [])
        assert list(token_ids[: len(known)]) == known
        assert len(token_ids) > len(known)
        self.contexts[request_id] = list(token_ids)
        self.samplings.setdefault(request_id, []).append(sampling)
        turn = self.tokenizer.encode_markup(self.scripts[request_id].pop(0))
        self.playing[request_id] = (turn, [], sampling.max_tokens)

    def step(self) -> list[Segment]:
        self.steps += 1
        finished: list[Segment] = []
        for request, (turn, played, limit) in list(self.playing.items()):
            played.append(turn.pop(0))
            end = self._end(played, limit)
            assert turn or end is not None, "a scripted turn stopped in the middle"
            if end is not None:
                del self.playing[request]
                self.contexts[request] += played
                finished.append(Segment(request, played, [self.logprob] * len(played), end))
        return finished

    def _end(self, played: list[int], limit: int) -> SegmentEnd | None:
        if any(tag in self.tokenizer.decode(played) for tag in STOP_TAGS):
            return SegmentEnd.STOP_TAG
        if played[-1] in self.tokenizer.eos_ids:
            return SegmentEnd.END_OF_SEQUENCE
        return SegmentEnd.LENGTH if len(played) == limit else None

    def release(self, request_id: int) -> None:
        self.contexts.pop(request_id, None)
        self.playing.pop(request_id, None)

    @property
    def active(self) -> int:
        return len(self.playing)


class Shelf(SearchEngine):
    """A search that answers each query from a mapping, and with nothing where that has no entry."""

    def __init__(self, results: Mapping[str, Sequence[str | Passage]]) -> None:
        self.results = results
        self.asked: list[list[str]] = []

    def search(self, query: str, top_k: int = 3) -> Sequence[str | Passage]:
        return self.results.get(query, ())

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        self.asked.append(list(queries))
        return super().search_batch(queries, top_k)


@pytest.fixture(scope="session")
def scripted_engine() -> type[ScriptedEngine]:
    """The class of an engine that plays given texts."""
    return ScriptedEngine


@pytest.fixture(scope="session")
def shelf() -> type[Shelf]:
    """The class of a search over a mapping."""
    return Shelf


@dataclass(frozen=True)
class Asked:
    """A request that a loopback server got."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


# Status, headers and body; None drops the connection without a word.
Answer = tuple[int, Mapping[str, str], bytes] | None


class LoopbackServer:
    """A real HTTP server on the loopback interface that answers as a function says.

    Args:
        answer: called for every request, in threads of the server's.
    """

    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.asked: list[Asked] = []
        self._connections: set[socket.socket] = set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer._connections.add(self.connection)

            def finish(self) -> None:
                super().finish()
                outer._connections.discard(self.connection)

            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                asked = Asked(self.command, self.path, dict(self.headers), body)
                outer.asked.append(asked)
                answered = answer(asked)
                if answered is None:
                    self.close_connection = True
                    return
                status, headers, content = answered
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = respond

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *arguments: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            connection.close()
        self._thread.join()


@pytest.fixture
def loopback() -> Iterator[Callable[[Callable[[Asked], Answer]], LoopbackServer]]:
    """Starts HTTP servers that answer as functions say."""
    servers: list[LoopbackServer] = []

    def start(answer: Callable[[Asked], Answer]) -> LoopbackServer:
        servers.append(LoopbackServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def mcp_program() -> tuple[str, str]:
    """The command that starts a real MCP server with search tools."""
    return sys.executable, str(Path(__file__).with_name("mcp_server.py"))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def mcp_url(mcp_program: tuple[str, str]) -> Iterator[str]:
    """The address of such a server, which runs in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([*mcp_program, str(port)])
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the MCP server does not start"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def word_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Saves BERT models whose vector of a text is about the mean of its words' unit vectors; others words are zero.

    Attention and feed-forward layers add nothing, so that cosines can be told by hand.
    """

    def save(words: str) -> Path:
        import torch
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(words.lower().split())]
        numbers = {word: number for number, word in enumerate(vocabulary)}
        backend = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
        backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=32, **special)
        sizes = {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        model = BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "LayerNorm" not in name:
                    parameter.zero_()
            embeddings = model.embeddings.word_embeddings.weight
            for number in range(4, len(vocabulary)):
                embeddings[number, number] = 1
        folder = tmp_path_factory.mktemp("word_encoder")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save
