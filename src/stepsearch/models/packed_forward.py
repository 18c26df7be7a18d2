"""A forward pass over a packed step: through the model's own `forward`, or layer by layer where its shape is known."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

from stepsearch.models.packed_attention import PackedUnsupportedError, StepAttention, attending
from stepsearch.models.packed_step import PackedStep

# Decoders that differ in nothing that `LayeredForward` does not ask the modules for.
_LAYERED = ("llama", "mistral", "qwen2", "qwen3")


class PackedForward(Protocol):
    """Keeps a step's keys and values; returns the logits [n, V] of its wanted tokens in the order of the reading."""

    def __call__(self, step: PackedStep) -> Tensor: ...


class WholeForward:
    """The model's own forward pass, attending through transformers' registry. For every model that uses that."""

    def __init__(self, causal_lm: nn.Module, max_length: int) -> None:
        self._causal_lm = causal_lm
        self._max_length = max_length
        self._configs = list({id(m.config): m.config for m in causal_lm.modules() if hasattr(m, "config")}.values())

    def __call__(self, step: PackedStep) -> Tensor:
        """Return the logits."""
        with attending(self._causal_lm, step.attention, self._configs, self._max_length):
            output = self._causal_lm(
                input_ids=step.input_ids[None],
                position_ids=step.position_ids[None],
                use_cache=False,
                logits_to_keep=step.wanted[step.order],
            )
        return output.logits[0]


class LayeredForward:
    """The model's modules one after the other, with less around them, and a last layer for the wanted tokens alone.

    Most tokens are read only for their keys and values, which the last layer needs before it attends.

    Raises:
        PackedUnsupportedError: the model is not of a kind that is known to be built like this.
    """

    def __init__(self, causal_lm: nn.Module, max_length: int) -> None:
        model, config = getattr(causal_lm, "model", None), getattr(causal_lm, "config", None)
        window = getattr(config, "sliding_window", None)
        if getattr(config, "model_type", None) not in _LAYERED or not hasattr(model, "embed_tokens"):
            raise PackedUnsupportedError("another kind of model")
        if window is not None and window < max_length:
            raise PackedUnsupportedError("sliding-window attention")
        self._model: Any = model
        self._causal_lm: Any = causal_lm

    def __call__(self, step: PackedStep) -> Tensor:
        """Return the logits."""
        model = self._model
        hidden = model.embed_tokens(step.input_ids)
        turn = _Turn.by(*model.rotary_emb(hidden[None], step.position_ids[None]))
        *layers, last = model.layers
        for layer in layers:
            normed = _norm(layer.input_layernorm, hidden)
            _keep(layer.self_attn, normed, turn, step)
            hidden = _finish(layer, hidden, normed, turn, step.attention)
        normed = _norm(last.input_layernorm, hidden)
        _keep(last.self_attn, normed, turn, step)
        hidden = _finish(last, hidden[step.wanted], normed[step.wanted], turn.of(step.wanted), step.wanted_attention)
        return self._causal_lm.lm_head(_norm(model.norm, hidden)[step.order])


class _Turn(NamedTuple):
    """The rotation of each token's position: cosines and sines [T, 1, width], those of the first half negative."""

    cos: Tensor
    sin: Tensor

    @classmethod
    def by(cls, cos: Tensor, sin: Tensor) -> "_Turn":
        """Return the rotation that transformers writes as cos and sin [1, T, width]."""
        first, second = sin[0].chunk(2, dim=-1)
        return cls(cos[0, :, None], torch.cat((-first, second), dim=-1)[:, None])

    def of(self, tokens: Tensor) -> "_Turn":
        """Return the rotation of some tokens."""
        return _Turn(self.cos[tokens], self.sin[tokens])

    def __call__(self, states: Tensor) -> Tensor:
        """Return queries or keys [T, heads, width] rotated."""
        first, second = states.chunk(2, dim=-1)
        return torch.addcmul(states * self.cos, torch.cat((second, first), dim=-1), self.sin)


def _norm(norm: Any, hidden: Tensor) -> Tensor:
    """Return what the RMS norm makes of the states, in one operation instead of transformers' six."""
    return rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _keep(attention: Any, normed: Tensor, turn: _Turn, step: PackedStep) -> None:
    """Write the keys and values of a layer's tokens."""
    heads = (-1, attention.head_dim)
    keys, values = attention.k_proj(normed).unflatten(1, heads), attention.v_proj(normed).unflatten(1, heads)
    if hasattr(attention, "k_norm"):
        keys = _norm(attention.k_norm, keys)
    step.attention.keep(attention.layer_idx, torch.cat((turn(keys), values), dim=1))


def _finish(layer: Any, hidden: Tensor, normed: Tensor, turn: _Turn, places: StepAttention) -> Tensor:
    """Return what the layer makes of the asking tokens, once keys and values are written."""
    attention = layer.self_attn
    queries = attention.q_proj(normed).unflatten(1, (-1, attention.head_dim))
    if hasattr(attention, "q_norm"):
        queries = _norm(attention.q_norm, queries)
    attended = places.attend(attention.layer_idx, turn(queries), attention.scaling).to(hidden.dtype)
    hidden = hidden + attention.o_proj(attended.flatten(1))
    return hidden + layer.mlp(_norm(layer.post_attention_layernorm, hidden))
