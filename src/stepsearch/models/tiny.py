"""The embedded tiny policy: an ordinary Qwen2 causal LM, by default of half a million parameters, made on the spot."""

import math

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from stepsearch.config import TINY_LAYERS, TINY_WIDTH
from stepsearch.models.induction_init import set_induction_heads
from stepsearch.models.tiny_tokenizer import EOS, PAD, build_tiny_tokenizer

_WIDEST_HEAD = 64
_EMBEDDING_STD = 0.1
_ROPE_THETA = 10_000.0


def build_tiny_policy(
    seed: int, width: int = TINY_WIDTH, layers: int = TINY_LAYERS
) -> tuple[Qwen2ForCausalLM, Qwen2Tokenizer]:
    """Return a new tiny policy and its tokenizer; equal for equal arguments, whatever the global random state.

    Args:
        seed: draws the weights.
        width: of the hidden states, a multiple of 128.
        layers: two or more.
    """
    tokenizer = build_tiny_tokenizer()
    causal_lm = Qwen2ForCausalLM(_architecture(tokenizer, width, layers))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        _set_weights(causal_lm, generator)
        set_induction_heads(causal_lm, _ROPE_THETA, generator)
    return causal_lm, tokenizer


def tiny_config(width: int = TINY_WIDTH, layers: int = TINY_LAYERS) -> Qwen2Config:
    """Return the configuration of a tiny policy of that size."""
    return _architecture(build_tiny_tokenizer(), width, layers)


def _architecture(tokenizer: Qwen2Tokenizer, width: int, layers: int) -> Qwen2Config:
    ids = tokenizer.get_vocab()
    heads = width // min(_WIDEST_HEAD, width // 4)
    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        tie_word_embeddings=True,
        pad_token_id=ids[PAD],
        bos_token_id=None,
        eos_token_id=ids[EOS],
    )


def _set_weights(causal_lm: Qwen2ForCausalLM, generator: torch.Generator) -> None:
    """Draw matrices with variance 1 / fan-in, a quarter of it where they write into the residual; zero the biases."""
    for name, parameter in causal_lm.named_parameters():
        if "embed_tokens" in name:
            parameter.normal_(std=_EMBEDDING_STD, generator=generator)
        elif parameter.dim() == 2:
            writes = "o_proj" in name or "down_proj" in name
            parameter.normal_(std=(0.5 if writes else 1.0) / math.sqrt(parameter.shape[1]), generator=generator)
        elif name.endswith("bias"):
            parameter.zero_()
