"""Attention over a packed step: ragged sequences side by side in one row, each seeing its own cached keys and values.

Where a step's tokens belong is said by a plan. Query heads that share a key-value head meet it without repeating it.
Registered with transformers under `PACKED`, for models that attend through it; there the plan is that of `attending`.
"""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from stepsearch.models.shared_change import SharedChange

PACKED = "stepsearch_packed"


class PackedUnsupportedError(Exception):
    """The model's attention does something that the packed one does not."""


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Rows of one pool with one asking token each.

    Attributes:
        first, last: the tokens among those that ask, in the order of `rows`.
        rows: [tokens] their rows in the pool, or None where they are all its rows in order.
        bias: [used rows, 1, 1, length] 0 where a key counts, else -inf.
    """

    first: int
    last: int
    rows: Tensor | None
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Prefill:
    """Several new tokens of one sequence.

    Attributes:
        first, last: the tokens among those that ask.
        row: its row in the pool.
        bias: [tokens, length] 0 where a key counts, else -inf.
    """

    first: int
    last: int
    row: int
    bias: Tensor


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What happens in one pool in one step.

    Attributes:
        storage: the pool's [layers, 2, rows, heads, capacity, width].
        used: rows in use.
        first, last: the pool's tokens in the packed step.
        places: [tokens x 2 x heads] where keys, then values of each token go, into storage flattened but for layer
            and width.
        decode: the asking tokens that stand alone in their rows.
        prefills: those that come in sequences.
    """

    storage: Tensor
    used: int
    first: int
    last: int
    places: Tensor
    decode: DecodeGroup | None
    prefills: Sequence[Prefill] = ()


_current = threading.local()
_switched = SharedChange()


@contextmanager
def attending(model: nn.Module, plan: list[PoolPlan], configs: list[Any], longest: int) -> Generator[None]:
    """Let this thread's forward passes of the model attend by the plan; afterwards it attends as it did before.

    Several threads may be inside, each with its own plan. One without a plan cannot use the model meanwhile.

    Args:
        model: what attends.
        plan: where the tokens of the step belong.
        configs: every config object of the model.
        longest: tokens that a sequence may have; a sliding window shorter than that is not supported.
    """
    with _switched.holds(model, partial(_switch, configs)):
        _current.plan, _current.longest = plan, longest
        try:
            yield
        finally:
            _current.plan = None


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
    plan: list[PoolPlan] = _current.plan
    queries, keys, values = (states[0].transpose(0, 1) for states in (query, key, value))
    write(plan, layer, torch.cat((keys, values), dim=1))
    return attend(plan, layer, queries, scaling)[None].to(query.dtype), None


def write(plan: list[PoolPlan], layer: int, keys_values: Tensor) -> None:
    """Keep the keys, then the values of each token of the step: [T, 2 x key-value heads, width]."""
    width = keys_values.shape[-1]
    # Under autocast the states may be of another type than the cache, which is of the weights'.
    keys_values = keys_values.to(plan[0].storage.dtype)
    for pool in plan:
        new = keys_values[pool.first : pool.last].reshape(-1, width)
        pool.storage[layer].view(-1, width).index_copy_(0, pool.places, new)


def attend(plan: list[PoolPlan], layer: int, queries: Tensor, scaling: float | None) -> Tensor:
    """Return [tokens, heads, width] attention of each asking token over its own sequence, whose keys are written.

    Args:
        plan: which tokens ask where.
        layer: number of the layer.
        queries: [tokens, heads, width].
        scaling: factor of the scores.
    """
    queries = queries.to(plan[0].storage.dtype)
    attended = torch.empty_like(queries, memory_format=torch.contiguous_format)
    for pool in plan:
        keys, values = pool.storage[layer].unbind()
        if pool.decode is not None:
            _decode(pool.decode, pool.used, queries, keys, values, scaling, attended)
        for prefill in pool.prefills:
            _prefill(prefill, queries, keys, values, scaling, attended)
    return attended


def _decode(
    group: DecodeGroup,
    used: int,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    scaling: float | None,
    attended: Tensor,
) -> None:
    heads, length = keys.shape[1], group.bias.shape[-1]
    asking = queries[group.first : group.last]
    if group.rows is not None:
        asking = asking.new_zeros(used, *asking.shape[1:]).index_copy_(0, group.rows, asking)
    asking = asking.reshape(used, heads, -1, asking.shape[-1])
    found = scaled_dot_product_attention(
        asking,
        keys[:used, :, :length],
        values[:used, :, :length],
        attn_mask=group.bias.expand(-1, 1, asking.shape[2], -1),
        scale=scaling,
    ).reshape(used, *queries.shape[1:])
    attended[group.first : group.last] = found if group.rows is None else found[group.rows]


def _prefill(
    prefill: Prefill, queries: Tensor, keys: Tensor, values: Tensor, scaling: float | None, attended: Tensor
) -> None:
    # Key-value heads take the place of the batch, and the query heads that share one that of the heads.
    new, length = prefill.bias.shape
    heads, width = keys.shape[1], keys.shape[-1]
    asking = queries[prefill.first : prefill.last].view(new, heads, -1, width).permute(1, 2, 0, 3)
    shared = asking.shape[1]
    found = scaled_dot_product_attention(
        asking,
        keys[prefill.row, :, None, :length].expand(-1, shared, -1, -1),
        values[prefill.row, :, None, :length].expand(-1, shared, -1, -1),
        attn_mask=prefill.bias,
        scale=scaling,
    )
    attended[prefill.first : prefill.last].view(new, heads, shared, width).copy_(found.permute(2, 0, 1, 3))


AttentionInterface.register(PACKED, packed_attention)
