"""Formulas against numbers worked out by hand, and against what autograd really keeps."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from stepsearch.config import LoraSettings
from stepsearch.models.adapters import ACTOR, Adapters, add_adapters, using
from stepsearch.models.trunk import enable_gradient_checkpointing
from stepsearch.training.planning.formulas import (
    LayerWidths,
    Precision,
    activation_bytes,
    decode_seconds,
    forward_flops,
    head_flops,
    key_value_bytes,
    layer_activation_bytes,
    learning_factor,
    logits_bytes,
)

HIDDEN, KEY_VALUE, INTERMEDIATE, RANK, TOKENS = 64, 32, 160, 4, 96


def test_keys_and_values_of_qwen_2_5_3b() -> None:
    # 36 layers, a key and a value each, 2 heads of 128, 4 bytes a number.
    assert key_value_bytes(36, 2 * 128, 4) == 36 * 2 * 256 * 4 == 73_728


def test_checkpointing_keeps_a_layers_input_and_one_layer() -> None:
    widths = LayerWidths(hidden=10, query=8, key_value=4, intermediate=20)
    layer = 4 * (6 * 10 + 2 * 8 + 2 * 4 + 4 * 20)
    assert layer == 656
    assert activation_bytes(100, 3, widths, Precision.FLOAT32, 4, checkpointing=False) == 100 * 3 * 656
    assert activation_bytes(100, 3, widths, Precision.FLOAT32, 4, checkpointing=True) == 100 * (3 * 10 * 4 + 656)
    # Under a 16-bit trunk the stream has two bytes a number.
    assert activation_bytes(100, 3, widths, Precision.FLOAT32, 2, checkpointing=True) == 100 * (3 * 10 * 2 + 656)


def test_logits_are_of_a_piece_at_most_and_of_one_token_at_least() -> None:
    assert logits_bytes(tokens=10, vocabulary=1000, piece_elements=5000) == 4 * 6 * 5000
    assert logits_bytes(tokens=3, vocabulary=1000, piece_elements=5000) == 4 * 6 * 3000
    assert logits_bytes(tokens=10, vocabulary=1000, piece_elements=10) == 4 * 6 * 1000


def test_operations() -> None:
    # 7 tokens, each 2 operations for 1,000 parameters, and in 3 layers two products, 50 wide, with 3.5 tokens.
    assert forward_flops(1000, layers=3, query_width=50, length=7) == 7 * (2000 + 2 * 2 * 50 * 7 // 2 * 3)
    assert head_flops(5, 10, 100) == 10_000
    assert learning_factor(checkpointing=False) == 3
    assert learning_factor(checkpointing=True) == 4


def test_a_decoding_pass_is_bound_by_memory_operations_or_its_start() -> None:
    machine = {"bandwidth": 1000.0, "flops_per_second": 500.0, "overhead": 0.25}
    # 4,000 bytes of weights and 2 rows x 10 tokens x 5 bytes, at 1,000 bytes a second.
    assert decode_seconds(2, 10, 4000, 5, 1.0, **machine) == pytest.approx(4.1)
    # 2 rows x 5,000 operations, at 500 a second.
    assert decode_seconds(2, 10, 4000, 5, 5000.0, **machine) == pytest.approx(20)
    # Next to nothing to do.
    assert decode_seconds(1, 1, 1, 1, 1.0, **machine) == 0.25


def kept_bytes(model: PreTrainedModel, adapters: Adapters | None, *, autocast: bool) -> int:
    """Return the bytes, besides parameters, that autograd keeps for the backward pass of the trunk."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.arange(TOKENS).view(2, -1)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), hooks, using(adapters, ACTOR):
        model.get_decoder()(input_ids=ids, use_cache=False)
    return sum(size for size, _ in kept.values())


def model_of(
    kind: str, layers: int, dtype: torch.dtype, rank: int, *, checkpointing: bool
) -> tuple[PreTrainedModel, Adapters | None]:
    config = AutoConfig.for_model(
        kind,
        hidden_size=HIDDEN,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=INTERMEDIATE,
        vocab_size=128,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    adapters = add_adapters(model, LoraSettings(rank=rank), 0, with_critic=False) if rank else None
    if checkpointing:
        enable_gradient_checkpointing(model)
    return model, adapters


@pytest.mark.parametrize("kind", ["qwen2", "llama", "qwen3"])
@pytest.mark.parametrize(
    ("precision", "dtype", "rank"),
    [
        (Precision.FLOAT32, torch.float32, 0),
        (Precision.AUTOCAST, torch.float32, 0),
        (Precision.FLOAT32, torch.float32, RANK),
        (Precision.BFLOAT16, torch.bfloat16, RANK),
        (Precision.AUTOCAST, torch.bfloat16, RANK),
    ],
)
def test_activations_are_what_autograd_keeps(kind: str, precision: Precision, dtype: torch.dtype, rank: int) -> None:
    autocast = precision is Precision.AUTOCAST
    few, many = (
        kept_bytes(*model_of(kind, layers, dtype, rank, checkpointing=False), autocast=autocast) for layers in (1, 3)
    )
    widths = LayerWidths(HIDDEN, HIDDEN, KEY_VALUE, INTERMEDIATE, rank, normed=kind == "qwen3")
    # Autocast also keeps a copy of a layer's float32 weights: of an adapter's halves, where the trunk has 16 bits.
    matrices = 0
    if autocast and not rank:
        matrices = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * KEY_VALUE + 3 * HIDDEN * INTERMEDIATE
    elif autocast:
        matrices = rank * (4 * HIDDEN + 2 * (HIDDEN + KEY_VALUE) + 3 * (HIDDEN + INTERMEDIATE))
    expected = TOKENS * layer_activation_bytes(widths, precision) + 2 * matrices
    # Norms keep a scale per token or head, and attention a sum per head: a percent at this width.
    assert (many - few) / 2 == pytest.approx(expected, rel=0.02)


def test_with_checkpointing_a_layer_keeps_its_input_alone() -> None:
    few, many = (
        kept_bytes(*model_of("qwen2", n, torch.float32, 0, checkpointing=True), autocast=False) for n in (1, 3)
    )
    assert (many - few) / 2 == TOKENS * HIDDEN * 4
