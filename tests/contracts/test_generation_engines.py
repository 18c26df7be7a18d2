"""What every generation engine promises, asked of each."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from stop_bias import eager_to_stop, eager_to_stop_without_bias

from stepsearch.config import VLLMSettings
from stepsearch.errors import ModelError
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.vllm_engine import VLLMEngine
from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.generation import Sampling, Segment, SegmentEnd

TURNS = 3


@dataclass
class Episode:
    """What one request's context became, and its segments with where each began."""

    context: list[int]
    segments: list[tuple[int, Segment]] = field(default_factory=list)


def play(engine, prompts, observations, samplings) -> dict[int, Episode]:
    """Play every prompt for some turns, an observation after each but the last; return the episodes by request."""
    episodes = {request: Episode(list(prompt)) for request, prompt in prompts.items()}
    for request, episode in episodes.items():
        engine.submit(request, episode.context, samplings[request])
    while engine.active:
        for segment in engine.step():
            episode = episodes[segment.request_id]
            episode.segments.append((len(episode.context), segment))
            episode.context += segment.token_ids
            turn = len(episode.segments)
            if turn > len(observations[segment.request_id]):
                engine.release(segment.request_id)
            else:
                episode.context += observations[segment.request_id][turn - 1]
                engine.submit(segment.request_id, episode.context, samplings[segment.request_id])
    return episodes


def workload(vocabulary, count, max_tokens=30, seed=0, **sampling):
    """Return ragged prompts, observations and samplings for `count` requests."""
    draw = np.random.default_rng(seed)

    def ids(low, high):
        return draw.integers(3, vocabulary, size=draw.integers(low, high)).tolist()

    prompts = {request: ids(1, 90) for request in range(count)}
    observations = {request: [ids(1, 70) for _ in range(TURNS - 1)] for request in range(count)}
    samplings = {
        request: Sampling(int(draw.integers(1, max_tokens)), seed=1000 + request, **sampling)
        for request in range(count)
    }
    return prompts, observations, samplings


@pytest.fixture(scope="module")
def vllm_engines(random_policy):
    """Gives engines by vLLM. Each takes seconds to start, so that tests share them and only the weights are fresh."""
    made = {}

    def make(tokenizer, eager=False, max_length=None):
        fresh = random_policy(len(tokenizer), hidden_size=128)
        if eager:
            eager_to_stop_without_bias(fresh, tokenizer)
        key = len(tokenizer), max_length
        if key not in made:
            policy = StepSearchModel(random_policy(len(tokenizer), hidden_size=128), tokenizer)
            settings = VLLMSettings(cache_gib=0.25)
            made[key] = policy, VLLMEngine(policy, settings, slots=8, max_length=max_length)
        policy, engine = made[key]
        for request_id in range(100):
            engine.release(request_id)
        policy.causal_lm.load_state_dict(fresh.state_dict())
        return policy.causal_lm.eval(), engine

    return make


@pytest.fixture(scope="module", params=["layered", "packed", "cache", "vllm"])
def make_engine(request, random_policy):
    """Builds an engine of each kind over a policy that suits it."""
    if request.param == "vllm":
        if find_spec("vllm") is None:
            pytest.skip("vLLM is not installed here: make test-engines has it")
        shared = request.getfixturevalue("vllm_engines")

        def share(tokenizer, slots=8, eager=False, max_length=None, read_tokens=64):
            return shared(tokenizer, eager, max_length)

        return share

    def make(tokenizer, slots=4, eager=False, **options):
        if request.param == "layered":
            causal_lm = random_policy(len(tokenizer))
        elif request.param == "packed":
            causal_lm = random_policy(len(tokenizer), "Olmo2")
        else:  # Bloom has positions of its own in its attention, which the packed one knows nothing of.
            causal_lm = random_policy(len(tokenizer), "Bloom", n_layer=2, n_head=4)
        if eager:
            eager_to_stop(causal_lm, tokenizer)
        if request.param != "cache":
            return causal_lm, InProcessEngine(causal_lm, tokenizer, slots=slots, **options)
        with pytest.warns(UserWarning, match="BloomForCausalLM cannot be read packed"):
            return causal_lm, InProcessEngine(causal_lm, tokenizer, slots=slots, **options)

    return make


@pytest.fixture
def make_second_engine(make_engine):
    """Builds a model with two engines over it."""

    def make(tokenizer, **options):
        causal_lm, engine = make_engine(tokenizer, **options)
        if isinstance(engine, VLLMEngine):
            pytest.skip("a process runs one vLLM")
        with warnings.catch_warnings(action="ignore"):  # The first engine's has been expected.
            return causal_lm, engine, InProcessEngine(causal_lm, tokenizer, **options)

    return make


@torch.no_grad()
def fresh_logprobs(causal_lm, context, temperature=1.0):
    """Return [n, V] log-probabilities of what follows each token, from one ordinary forward pass."""
    causal_lm.eval()
    return torch.log_softmax(causal_lm(input_ids=torch.tensor([context])).logits[0] / temperature, -1)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_a_fresh_forward(make_engine, spelled_tokenizer, temperature):
    causal_lm, engine = make_engine(spelled_tokenizer, slots=4, read_tokens=50)

    episodes = play(engine, *workload(len(spelled_tokenizer), 13, temperature=temperature))

    for episode in episodes.values():
        expected = fresh_logprobs(causal_lm, episode.context, temperature)
        for start, segment in episode.segments:
            places = torch.arange(start - 1, start - 1 + len(segment.token_ids))
            torch.testing.assert_close(
                torch.tensor(segment.logprobs), expected[places, segment.token_ids], atol=1e-4, rtol=0
            )


@pytest.mark.parametrize("name", ["spelled_tokenizer", "tagged_tokenizer"])
def test_a_segment_ends_where_its_text_says(make_engine, name, request):
    tokenizer = request.getfixturevalue(name)
    _, engine = make_engine(tokenizer, eager=True)
    prompts, observations, samplings = workload(len(tokenizer), 12, max_tokens=50)

    episodes = play(engine, prompts, observations, samplings)

    ends = []
    for request_id, episode in episodes.items():
        assert len(episode.segments) == TURNS
        for _, segment in episode.segments:
            assert len(segment.logprobs) == len(segment.token_ids) <= samplings[request_id].max_tokens
            before, text = tokenizer.decode(segment.token_ids[:-1]), tokenizer.decode(segment.token_ids)
            assert not any(tag in before for tag in STOP_TAGS)
            assert tokenizer.eos_ids.isdisjoint(segment.token_ids[:-1])
            closed, ended = any(tag in text for tag in STOP_TAGS), segment.token_ids[-1] in tokenizer.eos_ids
            expected = SegmentEnd.STOP_TAG if closed else SegmentEnd.END_OF_SEQUENCE if ended else SegmentEnd.LENGTH
            assert segment.end is expected
            if segment.end is SegmentEnd.LENGTH:
                assert len(segment.token_ids) == samplings[request_id].max_tokens
            ends.append(segment.end)
    assert set(ends) == set(SegmentEnd)


def test_an_episode_does_not_depend_on_its_neighbours(make_engine, spelled_tokenizer):
    prompts, observations, samplings = workload(len(spelled_tokenizer), 61, max_tokens=10)
    _, crowded = make_engine(spelled_tokenizer, slots=16, read_tokens=64)
    _, empty = make_engine(spelled_tokenizer, slots=1)

    together = play(crowded, prompts, observations, samplings)

    for request in (0, 60):
        alone = play(empty, {request: prompts[request]}, observations, samplings)[request]
        assert alone.context == together[request].context
        for (_, one), (_, other) in zip(alone.segments, together[request].segments, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_each_row_is_sampled_its_own_way(make_engine, spelled_tokenizer):
    prompts, observations, samplings = workload(len(spelled_tokenizer), 4, max_tokens=20)
    ways = [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.5, "temperature": 2.0}, {}]
    samplings = {
        request: Sampling(15, seed=request, **way) for (request, _), way in zip(samplings.items(), ways, strict=True)
    }
    _, engine = make_engine(spelled_tokenizer)

    together = play(engine, prompts, observations, samplings)

    for request in prompts:
        alone = play(engine, {request: prompts[request]}, observations, samplings)
        assert alone[request].context == together[request].context


def test_top_k_and_top_p_restrict_the_choice_but_not_the_logprob(make_engine, spelled_tokenizer):
    causal_lm, engine = make_engine(spelled_tokenizer)
    if isinstance(engine, VLLMEngine):
        pytest.skip("vLLM tells the log-probabilities of the restricted distribution")
    work = workload(len(spelled_tokenizer), 6, temperature=1.3, top_k=3, top_p=0.9)

    episodes = play(engine, *work)

    for episode in episodes.values():
        expected = fresh_logprobs(causal_lm, episode.context, 1.3)
        for start, segment in episode.segments:
            for offset, (token, logprob) in enumerate(zip(segment.token_ids, segment.logprobs, strict=True)):
                row = expected[start - 1 + offset]
                assert logprob == pytest.approx(row[token].item(), abs=1e-4)
                assert token in row.topk(3).indices


def test_the_same_seed_plays_the_same_and_another_does_not(make_engine, spelled_tokenizer):
    prompts, observations, samplings = workload(len(spelled_tokenizer), 5)
    _, engine = make_engine(spelled_tokenizer)

    first, again = (play(engine, prompts, observations, samplings) for _ in range(2))
    others = {request: Sampling(s.max_tokens, seed=s.seed + 1) for request, s in samplings.items()}
    other = play(engine, prompts, observations, others)

    assert [episode.segments for episode in first.values()] == [episode.segments for episode in again.values()]
    assert [episode.context for episode in first.values()] != [episode.context for episode in other.values()]


def test_segments_that_finish_together_come_in_the_order_of_submission(make_engine, spelled_tokenizer):
    _, engine = make_engine(spelled_tokenizer, slots=8)
    order = [5, 2, 7, 0, 3]

    for request in order:
        engine.submit(request, [request + 3], Sampling(1, seed=0))

    assert [segment.request_id for segment in engine.step()] == order


def test_slots_are_refilled_and_everything_is_let_go(make_engine, spelled_tokenizer):
    _, engine = make_engine(spelled_tokenizer, slots=2)
    for request in range(5):
        engine.submit(request, [4, 5], Sampling(3, seed=request))
    assert engine.active == 5

    engine.step()
    engine.release(0)  # while it is sampled
    engine.release(4)  # while it waits
    assert engine.active == 3
    finished: list[int] = []
    while engine.active:
        for segment in engine.step():
            finished.append(segment.request_id)
            engine.release(segment.request_id)

    assert sorted(finished) == [1, 2, 3]
    assert engine.step() == []
    engine.release(99)


def test_what_cannot_be_is_refused(make_engine, spelled_tokenizer):
    _, engine = make_engine(spelled_tokenizer, max_length=20)

    with pytest.raises(ModelError, match="a context of 15 tokens and 6 to sample are more than the engine's 20"):
        engine.submit(0, [5] * 15, Sampling(6, seed=0))
    with pytest.raises(ValueError, match="nothing to read"):
        engine.submit(0, [], Sampling(6, seed=0))
    assert engine.active == 0
    engine.submit(0, [5], Sampling(1, seed=0))
    with pytest.raises(ValueError, match="still being sampled"):
        engine.submit(0, [5, 6], Sampling(1, seed=0))
    (segment,) = engine.step()
    with pytest.raises(ValueError, match="does not extend"):
        engine.submit(0, [6, *segment.token_ids, 7], Sampling(1, seed=0))


def test_the_model_is_left_as_it_was(make_engine, spelled_tokenizer):
    causal_lm, engine = make_engine(spelled_tokenizer)
    causal_lm.train()
    frozen = next(iter(causal_lm.children()))
    frozen.eval()
    implementation = causal_lm.config._attn_implementation
    modes = [module.training for module in causal_lm.modules()]

    engine.submit(0, [4, 5], Sampling(3, seed=0))
    engine.step()

    assert [module.training for module in causal_lm.modules()] == modes
    assert causal_lm.config._attn_implementation == implementation
    loss = causal_lm(input_ids=torch.tensor([[4, 5, 6]]), labels=torch.tensor([[4, 5, 6]])).loss
    loss.backward()
    assert all(parameter.grad is not None for parameter in causal_lm.parameters())


def test_weights_are_shared_with_what_is_trained(make_engine, spelled_tokenizer):
    causal_lm, engine = make_engine(spelled_tokenizer)
    prompts, observations, samplings = workload(len(spelled_tokenizer), 3)
    play(engine, prompts, observations, samplings)
    with torch.no_grad():
        for parameter in causal_lm.parameters():
            parameter.mul_(1.1)

    episodes = play(engine, prompts, observations, samplings)

    for episode in episodes.values():
        expected = fresh_logprobs(causal_lm, episode.context)
        start, segment = episode.segments[-1]
        assert segment.logprobs[0] == pytest.approx(expected[start - 1, segment.token_ids[0]].item(), abs=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_weights_that_are_no_numbers_are_named(make_engine, spelled_tokenizer, temperature):
    causal_lm, engine = make_engine(spelled_tokenizer)
    with torch.no_grad():
        next(causal_lm.parameters()).fill_(torch.nan)

    with pytest.raises(ModelError, match="the model's scores are not finite"):
        play(engine, {0: [5, 6]}, {0: []}, {0: Sampling(4, seed=0, temperature=temperature)})


def test_what_an_engine_did_before_changes_no_bit(make_engine, spelled_tokenizer):
    work = workload(len(spelled_tokenizer), 8, max_tokens=15)
    _, fresh = make_engine(spelled_tokenizer)
    _, used = make_engine(spelled_tokenizer)
    play(used, *workload(len(spelled_tokenizer), 5, seed=5, max_tokens=15))

    first, second = play(fresh, *work), play(used, *work)

    assert [episode.segments for episode in first.values()] == [episode.segments for episode in second.values()]


def test_two_engines_over_one_model_in_two_threads_give_what_each_gives_alone(make_second_engine, spelled_tokenizer):
    causal_lm, engine, second = make_second_engine(spelled_tokenizer, slots=5)
    causal_lm.train()
    implementation = causal_lm.config._attn_implementation
    works = [workload(len(spelled_tokenizer), 12, seed=seed) for seed in (1, 2)]
    alone = [play(engine, *work) for work in works]

    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(play, [engine, second], *zip(*works, strict=True)))

    for one, other in zip(alone, together, strict=True):
        assert [episode.segments for episode in one.values()] == [episode.segments for episode in other.values()]
    assert causal_lm.training
    assert causal_lm.config._attn_implementation == implementation
