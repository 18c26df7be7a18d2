"""Attention over a cache with one row per slot, by flash attention's kernel for sequences of any length.

For accelerators: there a launch costs more than a row that is longer than what it holds. Shapes: S slots, T tokens.
"""

from dataclasses import dataclass
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
class RowAttention:
    """Implements `StepAttention`; every slot counts as a sequence, also one that asks for nothing.

    Attributes:
        kernel: attends.
        storage: [layers, S x capacity or more, 2 x key-value heads, width] keys, then values, slot by slot.
        places: [T] where each token's go.
        query_starts: [S + 1] int32; which asking tokens are a slot's, in the order of the slots. There may be more
            tokens than that, for which there is no sense in what comes out.
        key_starts: [S + 1] int32; where each slot's row begins.
        used: [S] int32; how many keys of its row count for a slot's last token, its own included.
        capacity: places of a row.
        longest_query: no slot asks with more tokens; 1: every slot asks with one.
    """

    kernel: VariableLengthAttention
    storage: Tensor
    places: Tensor
    query_starts: Tensor
    key_starts: Tensor
    used: Tensor
    capacity: int
    longest_query: int

    def keep(self, layer: int, keys_values: Tensor) -> None:
        """Keep the keys, then the values of each token of the step: [T, 2 x key-value heads, width]."""
        self.storage[layer].index_copy_(0, self.places, keys_values.to(self.storage.dtype))

    def attend(self, layer: int, queries: Tensor, scaling: float | None) -> Tensor:
        """Return [tokens, heads, width] attention of each asking token over its own sequence, whose keys are kept."""
        keys, values = self.storage[layer].chunk(2, dim=1)
        # Only without a window does the kernel take the query heads together that share a key-value head.
        return self.kernel(
            queries.to(self.storage.dtype),
            keys,
            values,
            self.query_starts,
            self.key_starts,
            self.longest_query,
            self.capacity,
            scale=scaling,
            window_size=(-1, -1) if self.longest_query == 1 else (-1, 0),
            enable_gqa=queries.shape[1] != keys.shape[1],
            seqused_k=self.used,
        )
