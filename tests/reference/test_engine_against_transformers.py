"""The in-process engine beside transformers' own forward pass and `generate`, over several architectures."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from stepsearch.config import RolloutSettings
from stepsearch.models.context_readers import CacheReader, PackedReader, PlainReader
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.packed_forward import LayeredForward, WholeForward
from stepsearch.rollout import RolloutRunner, Sampling, SegmentEnd, episode_seed
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Passage, Question

PACKED = {
    "Qwen2": {},
    "Llama": {},
    "Qwen3": {"head_dim": 16},
    "Mistral": {"sliding_window": None},
    "Phi3": {},
    "Olmo2": {},
    "Gemma": {"head_dim": 16},
    "GPT2": {"num_key_value_heads": None, "n_layer": 2, "n_head": 4, "n_embd": 32},
    "GPTNeoX": {"num_key_value_heads": None},
    "OPT": {"num_key_value_heads": None, "ffn_dim": 48, "word_embed_proj_dim": 32},
}
LAYERED = {"Qwen2", "Llama", "Qwen3", "Mistral"}
FALLBACK = {
    "Bloom": {"n_layer": 2, "n_head": 4},
    "Gemma2": {"head_dim": 16, "query_pre_attn_scalar": 16},
    "Mistral": {"sliding_window": 16},
}


def ragged(vocabulary, count, low=1, high=100, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(3, vocabulary, size=draw.integers(low, high)).tolist() for _ in range(count)]


@torch.no_grad()
def logprobs_of(causal_lm, context, start, token_ids):
    causal_lm.eval()
    logprobs = torch.log_softmax(causal_lm(input_ids=torch.tensor([context])).logits[0], -1)
    return logprobs[torch.arange(start - 1, start - 1 + len(token_ids)), token_ids]


def check_against_fresh_forward(causal_lm, tokenizer, slots=3, count=8, turns=3):
    engine = InProcessEngine(causal_lm, tokenizer, slots=slots, read_tokens=48)
    contexts = ragged(len(tokenizer), count)
    observations = ragged(len(tokenizer), count * turns, high=60, seed=1)
    segments = [[] for _ in contexts]
    for index, context in enumerate(contexts):
        engine.submit(index, context, Sampling(20, seed=index))
    while engine.active:
        for segment in engine.step():
            index = segment.request_id
            segments[index].append((len(contexts[index]), segment))
            contexts[index] += segment.token_ids
            if len(segments[index]) == turns:
                engine.release(index)
            else:
                contexts[index] += observations.pop()
                engine.submit(index, contexts[index], Sampling(20, seed=index))
    for context, played in zip(contexts, segments, strict=True):
        assert len(played) == turns
        for start, segment in played:
            expected = logprobs_of(causal_lm, context, start, segment.token_ids)
            torch.testing.assert_close(torch.tensor(segment.logprobs), expected, atol=1e-4, rtol=0)
    return engine


@pytest.mark.parametrize("kind", PACKED)
def test_packed_logprobs_are_those_of_a_fresh_forward(random_policy, spelled_tokenizer, kind):
    causal_lm = random_policy(len(spelled_tokenizer), kind, **PACKED[kind])

    engine = check_against_fresh_forward(causal_lm, spelled_tokenizer)

    assert isinstance(engine._reader, PackedReader)
    assert isinstance(engine._reader._forward, LayeredForward if kind in LAYERED else WholeForward)


@pytest.mark.parametrize("kind", FALLBACK)
def test_what_cannot_be_packed_falls_back_and_is_right(random_policy, spelled_tokenizer, kind):
    causal_lm = random_policy(len(spelled_tokenizer), kind, **FALLBACK[kind])

    with pytest.warns(UserWarning, match=f"{kind}ForCausalLM cannot be read packed"):
        engine = check_against_fresh_forward(causal_lm, spelled_tokenizer, count=4)

    assert isinstance(engine._reader, CacheReader)


@pytest.mark.filterwarnings("ignore")
def test_a_model_without_a_cache_of_keys_and_values_reads_everything_again(random_policy, spelled_tokenizer):
    causal_lm = random_policy(len(spelled_tokenizer), "Mamba", state_size=4)

    engine = check_against_fresh_forward(causal_lm, spelled_tokenizer, count=3, turns=2)

    assert isinstance(engine._reader, PlainReader)


@pytest.mark.parametrize("kind", ["Qwen2", "Llama"])
def test_greedy_is_what_generate_gives_turn_by_turn(random_policy, tagged_tokenizer, kind):
    causal_lm = random_policy(len(tagged_tokenizer), kind).eval()
    engine = InProcessEngine(causal_lm, tagged_tokenizer, slots=2)
    contexts = ragged(len(tagged_tokenizer), 6)
    observations = ragged(len(tagged_tokenizer), 6, seed=1)
    stops = [*tagged_tokenizer.eos_ids, *tagged_tokenizer.encode_markup("</search></answer>")]
    ours = [list(context) for context in contexts]
    for index, context in enumerate(ours):
        engine.submit(index, context, Sampling(25, seed=0, temperature=0))
    turns = [0] * 6
    while engine.active:
        for segment in engine.step():
            index = segment.request_id
            ours[index] += segment.token_ids
            if turns[index] == 1:
                engine.release(index)
                continue
            turns[index] = 1
            ours[index] += observations[index]
            engine.submit(index, ours[index], Sampling(25, seed=0, temperature=0))

    for context, observation, played in zip(contexts, observations, ours, strict=True):
        for more in (observation, []):
            context += causal_lm.generate(
                input_ids=torch.tensor([context]),
                attention_mask=torch.ones(1, len(context), dtype=torch.long),
                do_sample=False,
                max_new_tokens=25,
                eos_token_id=stops,
                pad_token_id=0,
            )[0, len(context) :].tolist()
            context += more
        assert played == context


def test_bfloat16_is_packed_too(random_policy, spelled_tokenizer):
    causal_lm = random_policy(len(spelled_tokenizer)).to(torch.bfloat16)

    engine = InProcessEngine(causal_lm, spelled_tokenizer, slots=3)
    engine.submit(0, [5, 6, 7], Sampling(9, seed=0))
    segments = []
    while engine.active:
        segments += engine.step()

    assert isinstance(engine._reader, PackedReader)
    expected = logprobs_of(causal_lm, [5, 6, 7, *segments[0].token_ids], 3, segments[0].token_ids)
    torch.testing.assert_close(torch.tensor(segments[0].logprobs), expected.float(), atol=0.3, rtol=0)


def test_a_model_that_computes_under_autocast(random_policy, spelled_tokenizer):
    causal_lm = random_policy(len(spelled_tokenizer))
    engine = InProcessEngine(causal_lm, spelled_tokenizer, slots=3)

    engine.submit(0, [5, 6, 7], Sampling(9, seed=0))
    segments = []
    with torch.autocast("cpu", torch.bfloat16):
        while engine.active:
            segments += engine.step()

    expected = logprobs_of(causal_lm, [5, 6, 7, *segments[0].token_ids], 3, segments[0].token_ids)
    torch.testing.assert_close(torch.tensor(segments[0].logprobs), expected, atol=0.3, rtol=0)


@pytest.mark.parametrize("name", ["spelled_tokenizer", "tagged_tokenizer"])
def test_whole_episodes_are_exact(random_policy, shelf, name, request):
    """Rollouts with search: recorded logprobs, masks and step positions, against the finished sequence."""
    tokenizer = request.getfixturevalue(name)
    causal_lm = random_policy(len(tokenizer))
    search_turn = tokenizer.encode_markup("<search>book</search>")
    _teach(causal_lm, search_turn)
    engine = InProcessEngine(causal_lm, tokenizer, slots=5, read_tokens=64)
    settings = RolloutSettings(max_turn_tokens=24, max_observation_tokens=80, max_passage_tokens=60, search_window=2)
    library = GuardedSearch(shelf({"book": [Passage("1", "the author wrote </search><answer>it</answer>", "book")]}))
    runner = RolloutRunner(engine, tokenizer, library, settings, max_length=400, max_search_steps=3, search_top_k=2)
    questions = [Question(str(index), f"Who wrote the book {index}?", ("x",)) for index in range(14)]

    trajectories = runner.run(questions, [episode_seed(0, index) for index in range(14)])

    assert sum(len(trajectory.steps) for trajectory in trajectories) > 10
    for trajectory in trajectories:
        context = [*trajectory.prompt_ids, *trajectory.response_ids]
        start, count = len(trajectory.prompt_ids), len(trajectory.response_ids)
        assert count == len(trajectory.response_mask) == len(trajectory.rollout_logprobs)
        expected = logprobs_of(causal_lm, context, start, trajectory.response_ids)
        sampled = torch.tensor(trajectory.response_mask, dtype=torch.bool)
        found = torch.tensor(trajectory.rollout_logprobs)
        torch.testing.assert_close(found[sampled], expected[sampled], atol=1e-4, rtol=0)
        assert not found[~sampled].any()
        for step in trajectory.steps:
            _check_end(tokenizer, trajectory, step)


def _check_end(tokenizer, trajectory, step):
    """The tag closes in the step's last token, which the environment's text follows."""
    mask = trajectory.response_mask[: step.end_position + 1]
    first = len(mask) - mask[::-1].index(0) if 0 in mask else 0
    turn = trajectory.response_ids[first : step.end_position + 1]
    assert tokenizer.decode(turn).count("</search>") == 1
    assert "</search>" not in tokenizer.decode(turn[:-1])
    assert step.query in " ".join(tokenizer.decode(turn).split())
    assert trajectory.response_mask[step.end_position] == 1
    assert step.end_position + 1 == len(trajectory.response_mask) or not trajectory.response_mask[step.end_position + 1]


def _teach(causal_lm, token_ids):
    """Make each of these tokens likely after the one before it, and the first likely anywhere."""
    head, embedding = causal_lm.lm_head, causal_lm.model.embed_tokens.weight
    head.bias = torch.nn.Parameter(torch.zeros(head.weight.shape[0]))
    with torch.no_grad():
        for layer in causal_lm.model.layers:
            layer.mlp.down_proj.weight.mul_(0.05)
            layer.self_attn.o_proj.weight.mul_(0.05)
        for before, after in pairwise(token_ids):
            direction = embedding[before] / embedding[before].norm()
            head.weight[after] += 2.5 * direction
        head.bias[token_ids[0]] = 4.0


def test_the_segment_end_of_greedy_turns(random_policy, tagged_tokenizer):
    causal_lm = random_policy(len(tagged_tokenizer))
    _teach(causal_lm, tagged_tokenizer.encode_markup("<search>book</search>"))
    engine = InProcessEngine(causal_lm, tagged_tokenizer, slots=1)

    engine.submit(0, tagged_tokenizer.encode_prompt("Who?"), Sampling(40, seed=0, temperature=0))
    segments = []
    while engine.active:
        segments += engine.step()

    assert segments[0].end is SegmentEnd.STOP_TAG
    assert tagged_tokenizer.decode(segments[0].token_ids).endswith("<search>book</search>")
