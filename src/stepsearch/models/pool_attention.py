"""Attention over pools of sequences of like length: keys and values in place, nothing gathered, little padding.

Query heads that share a key-value head meet it without repeating it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


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


@dataclass(frozen=True, slots=True)
class PoolAttention:
    """Implements `StepAttention` over the plans of the pools that a step touches."""

    pools: Sequence[PoolPlan]

    def keep(self, layer: int, keys_values: Tensor) -> None:
        """Keep the keys, then the values of each token of the step: [T, 2 x key-value heads, width]."""
        width = keys_values.shape[-1]
        # Under autocast the states may be of another type than the cache, which is of the weights'.
        keys_values = keys_values.to(self.pools[0].storage.dtype)
        for pool in self.pools:
            new = keys_values[pool.first : pool.last].reshape(-1, width)
            pool.storage[layer].view(-1, width).index_copy_(0, pool.places, new)

    def attend(self, layer: int, queries: Tensor, scaling: float | None) -> Tensor:
        """Return [tokens, heads, width] attention of each asking token over its own sequence, whose keys are kept."""
        queries = queries.to(self.pools[0].storage.dtype)
        attended = torch.empty_like(queries, memory_format=torch.contiguous_format)
        for pool in self.pools:
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
