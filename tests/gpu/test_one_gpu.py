"""What only a GPU can show. Run there: `pytest tests/gpu`."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_settings import SMALL
from toy_run import toy_config, toy_policy, toy_trainer
from transformers import Qwen2Config, Qwen2ForCausalLM

from stepsearch.cli.assembly import settings_to_play
from stepsearch.cli.main import main
from stepsearch.models import ModelTokenizer, StepSearchModel
from stepsearch.models.context_readers import PackedReader
from stepsearch.models.engines import build_engines
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.kv_pools import shape_of
from stepsearch.models.packed_forward import LayeredForward
from stepsearch.models.packed_step import Chunk, Reading
from stepsearch.models.reader_check import largest_error
from stepsearch.models.rollout_copy import RolloutCopy
from stepsearch.models.row_reader import RowReader
from stepsearch.models.step_search_model import model_record
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer
from stepsearch.rollout.generation import Sampling

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("default"),
]
SLOTS = 6


@pytest.fixture(scope="module")
def tokenizer() -> ModelTokenizer:
    return ModelTokenizer(build_tiny_tokenizer(), "question")


def gpu_model(tokenizer: ModelTokenizer, dtype: torch.dtype) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.1,
    )
    return Qwen2ForCausalLM(config).to("cuda", dtype).eval()


def played(engine: InProcessEngine, vocabulary: int, turns: int = 3, **sampling: float) -> list[tuple[list[int], list]]:
    """Play ragged episodes of several turns; return each one's context and its segments with where they began."""
    draw = np.random.default_rng(0)
    contexts = [draw.integers(3, vocabulary, size=draw.integers(5, 300)).tolist() for _ in range(2 * SLOTS)]
    observations = draw.integers(3, vocabulary, size=(len(contexts), turns, 150)).tolist()
    segments: list[list] = [[] for _ in contexts]
    for index, context in enumerate(contexts):
        engine.submit(index, context, Sampling(20 + index, seed=index, **sampling))
    while engine.active:
        for segment in engine.step():
            index = segment.request_id
            segments[index].append((len(contexts[index]), segment))
            contexts[index] += segment.token_ids
            if len(segments[index]) == turns:
                engine.release(index)
                continue
            contexts[index] += observations[index][len(segments[index])]
            engine.submit(index, contexts[index], Sampling(30, seed=index, **sampling))
    return list(zip(contexts, segments, strict=True))


@torch.no_grad()
def gaps(causal_lm: Qwen2ForCausalLM, episodes: list[tuple[list[int], list]]) -> torch.Tensor:
    """Return how far each sampled log-probability is from that of a fresh pass in float32."""
    exact = copy.deepcopy(causal_lm).float()
    found = []
    for context, segments in episodes:
        logprobs = torch.log_softmax(exact(input_ids=torch.tensor([context], device="cuda")).logits[0], -1)
        for start, segment in segments:
            places = torch.arange(start - 1, start - 1 + len(segment.token_ids))
            expected = logprobs[places, segment.token_ids].cpu()
            found.append((torch.tensor(segment.logprobs) - expected).abs())
    return torch.cat(found)


def test_rows_and_their_graph_agree_with_the_model(tokenizer: ModelTokenizer) -> None:
    causal_lm = gpu_model(tokenizer, torch.bfloat16)
    engine = InProcessEngine(causal_lm, tokenizer, slots=SLOTS, max_length=1024)

    assert isinstance(engine._reader, RowReader)
    off = gaps(causal_lm, played(engine, len(tokenizer)))
    assert engine._reader._capture
    assert off.mean() < 0.05
    assert off.max() < 1.0


def test_weights_in_float32_are_exact(tokenizer: ModelTokenizer) -> None:
    causal_lm = gpu_model(tokenizer, torch.float32)
    engine = InProcessEngine(causal_lm, tokenizer, slots=SLOTS, max_length=1024)

    assert gaps(causal_lm, played(engine, len(tokenizer))).max() < 1e-3


@torch.no_grad()
def test_the_graph_computes_what_the_kernels_do_one_by_one(tokenizer: ModelTokenizer) -> None:
    causal_lm = gpu_model(tokenizer, torch.bfloat16)
    draw = np.random.default_rng(0)
    found = []
    for capture in (True, False):
        reader = RowReader(SLOTS, shape_of(causal_lm), LayeredForward(causal_lm, 1024), 1024, capture=capture)
        chunk = Chunk(3, np.arange(3, 40), True)
        reader.read(Reading(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), [chunk]))
        draw = np.random.default_rng(0)
        for _ in range(5):
            token = draw.integers(3, len(tokenizer), size=1)
            found.append(reader.read(Reading(np.array([3]), token)).float().clone())
    torch.testing.assert_close(torch.stack(found[:5]), torch.stack(found[5:]), atol=0, rtol=0)
    assert largest_error(causal_lm, reader, SLOTS, len(tokenizer)) < 0.05


@pytest.mark.parametrize(
    "settings",
    [{}, {"training.mixed_precision": "bf16"}, {"training.mixed_precision": "bf16", "lora.rank": 4}],
    ids=["float32", "bf16", "lora"],
)
def test_a_run_learns_and_is_resumed(tmp_path: Path, settings: dict[str, object]) -> None:
    config = toy_config(
        {"training.max_steps": 4, "logging.checkpoint_every": 2, "training.gradient_checkpointing": True, **settings}
    )
    trainer = toy_trainer(tmp_path, config, device="cuda")
    before = {name: weight.clone() for name, weight in trainer._policy.weights()}
    assert trainer.train().steps == 4

    lines = (tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(np.isfinite(json.loads(line)["policy/loss"]) for line in lines[-3:])
    assert any(not torch.equal(before[name], weight) for name, weight in trainer._policy.weights())
    assert toy_trainer(tmp_path, config, device="cuda").resume() == 4
    assert StepSearchModel.load(tmp_path / "checkpoints" / "best_model").causal_lm.device.type == "cuda"


def test_the_quickstart_with_a_larger_built_in_policy(tmp_path: Path) -> None:
    size = ["model.tiny_width=256", "model.tiny_layers=4", "model.device=cuda", "training.mixed_precision=bf16"]
    assert main(["quickstart", "--output-dir", str(tmp_path), *SMALL, *size]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["after"]["count"] == 6
    assert StepSearchModel.load(tmp_path / "checkpoints" / "best_model").causal_lm.config.hidden_size == 256


@pytest.mark.parametrize(("mixed_precision", "reader"), [("no", PackedReader), ("bf16", RowReader)])
def test_a_trained_model_is_asked_in_the_precision_that_it_learned_in(
    tmp_path: Path, mixed_precision: str, reader: type
) -> None:
    toy_policy(0).save(tmp_path, model_record(toy_config({"training.mixed_precision": mixed_precision})))
    config = settings_to_play(str(tmp_path), None, ["model.device=cuda"])
    (engine,) = build_engines(StepSearchModel.load(config.model), config, learns=False).engines
    assert type(engine._reader) is reader


def test_a_copy_to_sample_from_follows_the_policy() -> None:
    policy = toy_policy(0).to("cuda")
    copied = RolloutCopy(policy)
    with torch.no_grad():
        for weight in policy.causal_lm.parameters():
            weight.add_(1.0)
    copied.sync()

    for name, weight in policy.causal_lm.state_dict().items():
        torch.testing.assert_close(copied.causal_lm.state_dict()[name], weight.bfloat16(), atol=0, rtol=0)
