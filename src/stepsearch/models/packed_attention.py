"""Attention over a packed step: ragged sequences side by side in one row, each seeing its own cached keys and values.

Where a step's tokens belong is known to its `StepAttention`. Registered with transformers under `PACKED`, for models
that attend through it; there the step is that of `attending`.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from stepsearch.models.shared_change import SharedChange

PACKED = "stepsearch_packed"


class PackedUnsupportedError(Exception):
    """The model's attention does something that the packed one does not."""


class StepAttention(Protocol):
    """Keeps the keys and values of a step's T tokens where their sequences are, and attends over those."""

    def keep(self, layer: int, keys_values: Tensor) -> None:
        """Keep the keys, then the values of each token of the step: [T, 2 x key-value heads, width]."""
        ...

    def attend(self, layer: int, queries: Tensor, scaling: float | None) -> Tensor:
        """Return [tokens, heads, width] attention of each asking token over its own sequence, whose keys are kept.

        Args:
            layer: number of the layer.
            queries: [tokens, heads, width].
            scaling: factor of the scores.
        """
        ...


_current = threading.local()
_switched = SharedChange()


@contextmanager
def attending(model: nn.Module, step: StepAttention, configs: list[Any], longest: int) -> Generator[None]:
    """Let this thread's forward passes of the model attend by the step; afterwards it attends as it did before.

    Several threads may be inside, each with its own step. One without a step cannot use the model meanwhile.

    Args:
        model: what attends.
        step: where its tokens belong.
        configs: every config object of the model.
        longest: tokens that a sequence may have; a sliding window shorter than that is not supported.
    """
    with _switched.holds(model, partial(_switch, configs)):
        _current.step, _current.longest = step, longest
        try:
            yield
        finally:
            _current.step = None


def _switch(configs: list[Any]) -> Callable[[], None]:
    """Make packed attention that of these configs; return what goes back to their own."""
    before = [config._attn_implementation_internal for config in configs]

    def restore() -> None:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation_internal = implementation

    for config in configs:
        config._attn_implementation_internal = PACKED
    return restore


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Return [1, T, heads, width] attention of each packed token over its own sequence.

    Args:
        module: the model's attention layer; its `layer_idx` names the layer.
        query: [1, heads, T, width].
        key: [1, key-value heads, T, width].
        value: as `key`.
        attention_mask: none is made for a registered attention without a mask function.
        scaling: factor of the scores.
        dropout: unused, nothing is trained here.
        sliding_window: keys further back do not count.
        softcap: bound of the scores.

    Raises:
        PackedUnsupportedError: the layer asks for what is not done here.
    """
    if softcap is not None or (sliding_window is not None and sliding_window < _current.longest):
        raise PackedUnsupportedError("soft-capped or sliding-window attention")
    layer: Any = module.layer_idx
    step: StepAttention = _current.step
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    step.keep(layer, torch.cat((keys, values), dim=1))
    return step.attend(layer, queries, scaling)[None].to(query.dtype), None


AttentionInterface.register(PACKED, packed_attention)
