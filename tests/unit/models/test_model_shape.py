import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from stepsearch.config import LoraSettings
from stepsearch.errors import ConfigError, ModelError
from stepsearch.models.adapters import ACTOR, CRITIC, add_adapters
from stepsearch.models.known_shapes import KNOWN_MODELS, known_config
from stepsearch.models.model_shape import PUBLISHED, adapter_parameters, find_config, shape_of_config
from stepsearch.models.tiny import build_tiny_policy, tiny_config
from stepsearch.models.value_model import ValueModel


def small_config(kind: str, **changes: object) -> PreTrainedConfig:
    sizes = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "vocab_size": 128,
    }
    return AutoConfig.for_model(kind, **{**sizes, **changes})


def mixture_config() -> PreTrainedConfig:
    return small_config("qwen3_moe", num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32)


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "mistral", "gemma", "phi3"])
@pytest.mark.parametrize("tied", [True, False])
def test_counts_are_those_of_the_real_model(kind: str, tied: bool) -> None:
    config = small_config(kind, tie_word_embeddings=tied, pad_token_id=0)
    model = AutoModelForCausalLM.from_config(config)
    shape = shape_of_config(config, "config.json")
    critic = ValueModel.from_causal_lm(model, seed=0)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.trunk_parameters + shape.value_head_parameters == sum(p.numel() for p in critic.parameters())
    assert shape.read_parameters == shape.trunk_parameters - 128 * 64
    assert (shape.layers, shape.hidden, shape.query_width, shape.key_value_width) == (2, 64, 64, 32)
    assert shape.normed_queries == (kind == "qwen3")


def test_a_token_is_multiplied_with_the_experts_that_it_is_sent_to() -> None:
    shape = shape_of_config(mixture_config(), "config.json")
    # In each of 2 layers 8 experts of three matrices, 64 x 32 each, of which 2 are used.
    unused = 2 * (8 - 2) * 3 * 64 * 32
    assert shape.trunk_parameters - 128 * 64 - shape.read_parameters == unused


@pytest.mark.parametrize(
    "target_modules", ["all-linear", "All-Linear", r".*\.[qo]_proj", ("q_proj", "mlp.up_proj", "lm_head")]
)
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma2"])
def test_an_adapters_parameters_are_those_that_peft_injects(kind: str, target_modules: str | tuple[str, ...]) -> None:
    config = small_config(kind, tie_word_embeddings=False)
    settings = LoraSettings(rank=4, target_modules=target_modules)
    model = AutoModelForCausalLM.from_config(config)
    add_adapters(model, settings, 0, with_critic=True)
    for name in (ACTOR, CRITIC):
        injected = sum(p.numel() for key, p in model.named_parameters() if f".{name}." in key)
        assert adapter_parameters(config, settings) == injected


def test_an_adapters_parameters_need_no_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    config = small_config("llama")
    # Rank 4 times inputs and outputs of q, k, v, o, gate, up and down, in two layers.
    by_hand = 2 * 4 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 96))
    assert adapter_parameters(config, LoraSettings(rank=4)) == by_hand
    assert adapter_parameters(config, LoraSettings()) == 0
    with pytest.raises(ConfigError, match=r"peft is not installed"):
        adapter_parameters(mixture_config(), LoraSettings(rank=4))


def test_adapters_of_experts_are_those_that_peft_injects() -> None:
    attention, router = (64 + 64) + 2 * (64 + 32) + (64 + 64), 64 + 8
    # Gate and up are one parameter of twice the rank.
    experts = 8 * (2 * (64 + 2 * 32) + (32 + 64))
    assert adapter_parameters(mixture_config(), LoraSettings(rank=4)) == 2 * 4 * (attention + router + experts)


@pytest.mark.parametrize("target_modules", [("no_such_layer",), "no_such_pattern", ("mlp",)])
def test_layers_that_cannot_have_an_adapter_are_refused_as_peft_does(target_modules: str | tuple[str, ...]) -> None:
    config, settings = small_config("llama"), LoraSettings(rank=4, target_modules=target_modules)
    with pytest.raises(ConfigError, match=r"lora\.target_modules: "):
        adapter_parameters(config, settings)
    with pytest.raises(ConfigError, match=r"lora\.target_modules: "):
        add_adapters(AutoModelForCausalLM.from_config(config), settings, 0, with_critic=False)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Qwen/Qwen2.5-0.5B", 0.49),
        ("Qwen/Qwen2.5-1.5B", 1.54),
        ("Qwen/Qwen2.5-3B", 3.09),
        ("Qwen/Qwen2.5-7B-Instruct", 7.62),
        ("Qwen/Qwen2.5-14B", 14.77),
        ("Qwen/Qwen2.5-32B", 32.76),
        ("Qwen/Qwen3-0.6B-Base", 0.60),
        ("Qwen/Qwen3-1.7B", 1.72),
        ("Qwen/Qwen3-4B", 4.02),
        ("Qwen/Qwen3-8B", 8.19),
        ("Qwen/Qwen3-14B", 14.77),
        ("meta-llama/Llama-3.2-1B", 1.24),
        ("meta-llama/Llama-3.2-3B-Instruct", 3.21),
        ("meta-llama/Llama-3.1-8B", 8.03),
        ("mistralai/Mistral-7B-v0.3", 7.25),
    ],
)
def test_published_dimensions_give_published_sizes(name: str, billions: float) -> None:
    config = known_config(name)
    assert config is not None
    assert round(shape_of_config(config, PUBLISHED).parameters / 1e9, 2) == billions


def test_every_known_model_is_checked_against_its_published_size() -> None:
    marks = test_published_dimensions_give_published_sizes.pytestmark
    checked = {name.removesuffix("-Instruct").removesuffix("-Base") for name, _ in marks[0].args[1]}
    assert checked == set(KNOWN_MODELS)


def test_the_tiny_policys_configuration_is_the_one_that_is_built() -> None:
    causal_lm, _ = build_tiny_policy(0)
    assert shape_of_config(tiny_config(), "").parameters == causal_lm.num_parameters()


def test_a_folder_with_a_config_alone_is_enough(tmp_path: Path) -> None:
    small_config("qwen2", dtype="bfloat16").save_pretrained(tmp_path)
    config, source = find_config(str(tmp_path))
    shape = shape_of_config(config, source)
    assert (shape.kind, shape.source, shape.dtype) == ("qwen2", "config.json", torch.bfloat16)


def test_a_model_that_is_not_to_be_had_and_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the dimensions of these are known without it: Qwen/Qwen2\.5-0\.5B"):
        find_config(str(tmp_path / "nothing"))
