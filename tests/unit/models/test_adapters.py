import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2ForCausalLM

from stepsearch.config import LoraSettings
from stepsearch.errors import ConfigError
from stepsearch.models import StepSearchModel
from stepsearch.models.adapters import ACTOR, CRITIC, add_adapters
from stepsearch.models.value_model import ValueModel
from stepsearch.training.preflight import check_weights

IDS = torch.arange(24).view(2, 12)
MASK = torch.tensor([[0] * 4 + [1] * 8] * 2)


@pytest.fixture
def policy(policy: StepSearchModel) -> StepSearchModel:
    """The shared random Qwen2 with adapters of rank 2, at their start."""
    policy.adapters = add_adapters(policy.causal_lm, LoraSettings(rank=2, alpha=8), seed=0, with_critic=True)
    return policy


def move(policy: StepSearchModel, name: str) -> None:
    with torch.no_grad():
        for key, parameter in policy.causal_lm.named_parameters():
            if f"lora_B.{name}" in key:
                parameter.normal_(std=0.3)


def scores(policy: StepSearchModel) -> torch.Tensor:
    return policy(IDS, MASK, with_entropy=False).logprobs.detach()


def test_fresh_adapters_change_nothing_and_the_trunk_is_frozen(policy: StepSearchModel) -> None:
    as_loaded = policy.score_as_loaded(IDS, MASK, 1.0, False).logprobs
    torch.testing.assert_close(scores(policy), as_loaded, rtol=0, atol=0)
    learning = {name for name, parameter in policy.causal_lm.named_parameters() if parameter.requires_grad}
    # Seven linear layers in each of two blocks, two matrices each; the head has none.
    assert len(learning) == 2 * 7 * 2
    assert all(f".{ACTOR}." in name for name in learning)


def test_adapters_of_a_trunk_in_half_precision_learn_in_float32(tokenizer, policy: StepSearchModel) -> None:
    half = StepSearchModel(Qwen2ForCausalLM(policy.causal_lm.config).to(torch.bfloat16), policy.tokenizer)
    half.adapters = add_adapters(half.causal_lm, LoraSettings(rank=2, alpha=8), seed=0, with_critic=True)
    assert {p.dtype for p in half.causal_lm.parameters() if p.requires_grad} == {torch.float32}

    plain = scores(half)
    with torch.autocast("cpu", torch.bfloat16):
        half(IDS, MASK).logprobs.sum().backward()
    torch.testing.assert_close(scores(half), plain)
    gradients = [p.grad for p in half.causal_lm.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.dtype == torch.float32 for gradient in gradients)


def test_each_network_has_its_own_adapter_and_the_reference_has_none(policy: StepSearchModel) -> None:
    critic = ValueModel.on_adapters(policy.causal_lm, policy.adapters, seed=0)
    torch.nn.init.normal_(critic.head.output.weight)
    before, value_before = scores(policy), critic(IDS, MASK).detach()
    move(policy, ACTOR)
    assert not torch.allclose(scores(policy), before, atol=1e-3)
    torch.testing.assert_close(critic(IDS, MASK).detach(), value_before, rtol=0, atol=0)
    torch.testing.assert_close(policy.score_as_loaded(IDS, MASK, 1.0, False).logprobs, before, rtol=0, atol=0)
    moved = scores(policy)
    move(policy, CRITIC)
    assert not torch.allclose(critic(IDS, MASK).detach(), value_before, atol=1e-3)
    torch.testing.assert_close(scores(policy), moved, rtol=0, atol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_one_adapter_alone(policy: StepSearchModel, checkpointing: bool) -> None:
    move(policy, ACTOR)
    move(policy, CRITIC)
    if checkpointing:
        policy.enable_gradient_checkpointing()
    critic = ValueModel.on_adapters(policy.causal_lm, policy.adapters, seed=0)
    torch.nn.init.normal_(critic.head.output.weight)
    for name, loss in (
        (ACTOR, lambda: policy(IDS, MASK, with_entropy=False).logprobs.sum()),
        (CRITIC, lambda: critic(IDS, MASK).sum()),
    ):
        policy.zero_grad()
        with policy.adapters.active(name):
            loss().backward()
        touched = {key for key, p in policy.causal_lm.named_parameters() if p.grad is not None and p.grad.any()}
        assert touched
        assert all(f".{name}." in key for key in touched)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks transformers for it.
def test_a_saved_policy_is_merged_and_the_adapter_lies_beside_it(policy: StepSearchModel, tmp_path: Path) -> None:
    plain = Qwen2ForCausalLM(policy.causal_lm.config)
    names = set(plain.state_dict())
    base = {key.replace(".base_layer.", "."): weights for key, weights in policy.causal_lm.state_dict().items()}
    plain.load_state_dict({key: base[key] for key in names})
    move(policy, ACTOR)
    policy.save(tmp_path / "model", {})
    loaded = StepSearchModel.load(tmp_path / "model")
    torch.testing.assert_close(scores(loaded), scores(policy), rtol=0, atol=1e-5)
    # By transformers and peft alone.
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    stacked = PeftModel.from_pretrained(plain, tmp_path / "model" / "adapter")
    with torch.no_grad():
        torch.testing.assert_close(stacked(IDS).logits, whole(IDS).logits, rtol=0, atol=1e-5)
    assert set(load_file(tmp_path / "model" / "model.safetensors")) == names - {"lm_head.weight"}
    assert json.loads((tmp_path / "model" / "adapter" / "adapter_config.json").read_text())["r"] == 2


def test_layers_that_there_are_not_are_refused(policy: StepSearchModel) -> None:
    plain = Qwen2ForCausalLM(policy.causal_lm.config)
    with pytest.raises(ConfigError, match=r"lora\.target_modules"):
        add_adapters(plain, LoraSettings(rank=2, target_modules=("nowhere",)), seed=0, with_critic=False)


def test_on_a_16_bit_trunk_adapters_have_32_bits() -> None:
    config = AutoConfig.for_model(
        "qwen2", hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, vocab_size=64
    )
    causal_lm = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    add_adapters(causal_lm, LoraSettings(rank=2), seed=0, with_critic=True)
    kinds = {(".lora_" in name, parameter.dtype) for name, parameter in causal_lm.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    check_weights(causal_lm)
