"""A vLLM server: tokens and log-probabilities, and weights handed over to it while it runs."""

import pytest
from sampling_probes import largest_gap, learn, sample
from stop_bias import eager_to_stop_without_bias

from stepsearch.config import VLLMSettings
from stepsearch.errors import ModelError
from stepsearch.models.vllm_server_engine import VLLMServerEngine
from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.generation import SegmentEnd


@pytest.fixture(scope="module")
def tied(make_policy):
    return make_policy(tie_word_embeddings=True)


@pytest.fixture(scope="module")
def server(start_server, tied, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tied"
    tied.save(folder, {})
    return start_server(folder, VLLM_SERVER_DEV_MODE="1")


@pytest.fixture
def settings(server):
    return VLLMSettings(url=server.url)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_weights_arrive_after_every_update(tied, settings, temperature):
    engine = VLLMServerEngine(tied, settings, slots=4, max_length=512)

    for _ in range(2):
        sampled = sample(engine, temperature=temperature)
        assert largest_gap(tied, sampled, temperature) < 1e-4
        assert {tuple(context): part.token_ids for context, part in sampled} == {
            tuple(context): part.token_ids for context, part in sample(engine, temperature=temperature)
        }
        learn(tied)


def test_segments_end_at_the_token_that_closes_a_tag(tied, settings):
    eager_to_stop_without_bias(tied.causal_lm, tied.tokenizer)

    sampled = sample(VLLMServerEngine(tied, settings, slots=8, max_length=512), count=24)

    # The channel that stands for a bias is large, and costs digits.
    assert largest_gap(tied, sampled) < 1e-3
    for _, segment in sampled:
        before, text = tied.tokenizer.decode(segment.token_ids[:-1]), tied.tokenizer.decode(segment.token_ids)
        assert not any(tag in before for tag in STOP_TAGS)
        assert any(tag in text for tag in STOP_TAGS) == (segment.end is SegmentEnd.STOP_TAG)
        assert (segment.token_ids[-1] in tied.tokenizer.eos_ids) == (segment.end is SegmentEnd.END_OF_SEQUENCE)
    assert {segment.end for _, segment in sampled} == set(SegmentEnd)


def test_a_server_of_another_model_is_found_out(tied, settings):
    assert sample(VLLMServerEngine(tied, settings, slots=4, max_length=512, learns=False), count=1)
    learn(tied)

    with pytest.raises(ModelError, match="does not sample from the policy: its log-probabilities are off by"):
        sample(VLLMServerEngine(tied, settings, slots=4, max_length=512, learns=False), count=1)


def test_a_server_of_shorter_contexts_is_refused(tied, settings):
    with pytest.raises(ModelError, match=r"takes 512 tokens, fewer than model\.max_length=600: start it with"):
        VLLMServerEngine(tied, settings, slots=4, max_length=600)
