"""vLLM in process: weights that arrive, and what is said when they cannot; LoRA; saved folders."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from sampling_probes import largest_gap, learn, sample

from stepsearch.config import LoraSettings
from stepsearch.errors import ModelError
from stepsearch.models import weight_check
from stepsearch.models.adapters import add_adapters
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.vllm_engine import VLLMEngine
from stepsearch.models.vllm_process import VLLMProcess


@pytest.mark.parametrize("tied", [False, True])
def test_weights_arrive_after_every_update(make_policy, small_cache, tied):
    policy = make_policy(tie_word_embeddings=tied)
    engine = VLLMEngine(policy, small_cache, slots=4)

    for _ in range(3):
        assert largest_gap(policy, sample(engine)) < 1e-4
        learn(policy)


def without_tied_names(policy: StepSearchModel) -> Iterator[tuple[str, torch.Tensor]]:
    """A policy's weights by names of which no two are of one tensor, as a saved file has them."""
    return policy.causal_lm.named_parameters()


def test_a_head_that_stays_behind_is_found_and_mended(make_policy, small_cache, monkeypatch):
    monkeypatch.setattr(StepSearchModel, "weights", without_tied_names)
    mended: list[float] = []
    probe, mend = weight_check.probe_gap, VLLMProcess.mend_head

    def noting_gap(policy: StepSearchModel, probes: Any) -> float:
        mended.append(probe(policy, probes))
        return mended[-1]

    monkeypatch.setattr("stepsearch.models.copied_policy_engine.probe_gap", noting_gap)
    policy = make_policy(tie_word_embeddings=True)
    engine = VLLMEngine(policy, small_cache, slots=4)

    assert largest_gap(policy, sample(engine)) < 1e-4
    stale, right = mended
    assert stale > 0.1 > 1e-3 > right
    learn(policy)
    assert largest_gap(policy, sample(engine)) < 1e-4
    # It is known by then what to do.
    assert len(mended) == 3

    monkeypatch.setattr(VLLMProcess, "mend_head", lambda self: None)
    with pytest.raises(
        ModelError, match=r"vLLM has not taken over the weights of the policy, a Qwen2ForCausalLM: .* off"
    ):
        sample(VLLMEngine(policy, small_cache, slots=4))
    monkeypatch.setattr(VLLMProcess, "mend_head", mend)
    assert largest_gap(policy, sample(VLLMEngine(policy, small_cache, slots=4))) < 1e-4


def test_a_process_runs_one_vllm_and_goes_back_to_another(make_policy, small_cache):
    policies = [make_policy(), make_policy(num_hidden_layers=1)]
    engines = [VLLMEngine(policy, small_cache, slots=4, learns=False) for policy in policies]

    for turn in (1, 0, 1):
        assert largest_gap(policies[turn], sample(engines[turn])) < 1e-4


def test_a_model_that_vllm_would_change_is_refused(make_policy, small_cache):
    with pytest.raises(ModelError, match=r"vLLM knows PhiForCausalLM only through transformers' own classes"):
        VLLMEngine(make_policy(kind="Phi", num_key_value_heads=4), small_cache, slots=4)


def test_an_adapter_is_sampled_as_part_of_the_policy(make_policy, small_cache):
    policy = make_policy()
    policy.adapters = add_adapters(policy.causal_lm, LoraSettings(rank=2, alpha=8), seed=0, with_critic=True)
    engine = VLLMEngine(policy, small_cache, slots=4)

    for _ in range(2):
        assert largest_gap(policy, sample(engine)) < 1e-4
        learn(policy)


def test_a_saved_policy_loads_merged_and_as_an_adapter(make_policy, small_cache, tmp_path):
    policy = make_policy()
    policy.save(tmp_path / "base", {})
    policy.adapters = add_adapters(policy.causal_lm, LoraSettings(rank=2, alpha=8), seed=0, with_critic=True)
    learn(policy)
    policy.causal_lm.config.name_or_path = str(tmp_path / "base")
    policy.save(tmp_path / "trained", {})
    prompt = list(range(3, 20))
    ids = torch.tensor([prompt])
    with torch.no_grad():
        expected = torch.log_softmax(policy.causal_lm(ids).logits[0], -1)[torch.arange(16), ids[0, 1:]]
    VLLMEngine(policy, small_cache, slots=1)  # Sets what vLLM reads when it is imported.

    from vllm.lora.request import LoRARequest

    adapter = LoRARequest("trained", 1, str(tmp_path / "trained" / "adapter"))
    for folder, request in ((tmp_path / "trained", None), (tmp_path / "base", adapter)):
        found = prompt_logprobs(str(folder), prompt, request)
        torch.testing.assert_close(torch.tensor(found), expected, atol=1e-3, rtol=0)


def prompt_logprobs(folder: str, prompt: list[int], adapter: Any) -> list[float]:
    """Return what a model that vLLM itself loads from a folder says of a prompt's tokens after the first."""
    from vllm import EngineArgs, LLMEngine, SamplingParams

    if VLLMProcess._running is not None:
        VLLMProcess._running._stop()
    arguments = {"enforce_eager": True, "dtype": "float32", "max_model_len": 128, "kv_cache_memory_bytes": 1 << 27}
    engine = LLMEngine.from_engine_args(EngineArgs(folder, enable_lora=adapter is not None, max_loras=1, **arguments))
    engine.add_request(
        "0", {"prompt_token_ids": prompt}, SamplingParams(max_tokens=1, prompt_logprobs=0), lora_request=adapter
    )
    (output,) = [output for _ in range(2) for output in engine.step() if output.finished]
    return [tokens[token].logprob for token, tokens in zip(prompt[1:], output.prompt_logprobs[1:], strict=True)]
