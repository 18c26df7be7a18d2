"""Attention over a cache with one row per slot, by flash attention's kernel for sequences of any length.

For accelerators: there a launch costs more than a row that is longer than what it holds. Shapes: S slots, T tokens.
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

HALF_PRECISION = (torch.bfloat16, torch.float16)


class VariableLengthAttention(Protocol):
    """What `torch.nn.attention.varlen.varlen_attn` does, as far as it is used here."""

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float | None,
        window_size: tuple[int, int],
        enable_gqa: bool,
        seqused_k: Tensor,
    ) -> Tensor:
        """Return [asking tokens, heads, width]."""
        ...


@dataclass(frozen=True, slots=True)
class Chunks:
    """Tokens that come in sequences.

    Attributes:
        starts: [S + 1] int32; which tokens are a slot's, slot by slot. There may be more tokens than that, for which
            there is no sense in what comes out.
        used: [S] int32; how many keys count for a slot's last token, its own included.
        longest: no slot has more tokens.
    """

    starts: Tensor
    used: Tensor
    longest: int


@dataclass(frozen=True, slots=True)
class RowAttention:
    """Implements `StepAttention`; the first S asking tokens are one of each slot, chunks follow.

    Attributes:
        kernel: attends.
        storage: [layers, S x capacity or more, 2 x key-value heads, width] keys, then values, slot by slot.
        places: [T] where each token's go.
        key_starts: [S + 1] int32; where each slot's row begins.
        each: [S + 1] int32; 0, 1, 2, ...
        used: [S] int32; how many keys count for a slot's one token, its own included; 1 where it asks for nothing.
        capacity: places of a row.
        chunks: what follows.
    """

    kernel: VariableLengthAttention
    storage: Tensor
    places: Tensor
    key_starts: Tensor
    each: Tensor
    used: Tensor
    capacity: int
    chunks: Chunks | None = None

    def keep(self, layer: int, keys_values: Tensor) -> None:
        """Keep the keys, then the values of each token of the step: [T, 2 x key-value heads, width]."""
        self.storage[layer].index_copy_(0, self.places, keys_values.to(self.storage.dtype))

    def attend(self, layer: int, queries: Tensor, scaling: float | None) -> Tensor:
        """Return [tokens, heads, width] attention of each asking token over its own sequence, whose keys are kept."""
        keys, values = self.storage[layer].chunk(2, dim=1)
        queries = queries.to(self.storage.dtype)
        attend = partial(self.kernel, scale=scaling, enable_gqa=queries.shape[1] != keys.shape[1])
        slots = len(self.used)
        # With one query a sequence, and without a window, the kernel takes the query heads that share a key-value head
        # together, and so reads the keys once.
        found = attend(
            queries[:slots],
            keys,
            values,
            self.each,
            self.key_starts,
            1,
            self.capacity,
            window_size=(-1, -1),
            seqused_k=self.used,
        )
        if self.chunks is None:
            return found
        read = attend(
            queries[slots:],
            keys,
            values,
            self.chunks.starts,
            self.key_starts,
            self.chunks.longest,
            self.capacity,
            window_size=(-1, 0),
            seqused_k=self.chunks.used,
        )
        return torch.cat((found, read))
