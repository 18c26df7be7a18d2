"""What a run costs, by formulas: bytes, floating-point operations and seconds of each part.

Bytes of activations are those that autograd keeps for the backward pass of a transformers decoder layer of the usual
build (two RMS norms, attention, a gated MLP; flash or memory-efficient attention keeps no scores).
"""

from dataclasses import dataclass
from enum import StrEnum

FLOAT32, BFLOAT16 = 4, 2
"""Bytes of a number."""
ADAM_STATES = 2
# Of a piece of logits, in float32: scaled, their log-softmax, its exponential, and the gradients of these.
LOGIT_COPIES = 6
# A weight, its gradient and two states are read, and all but the gradient written.
OPTIMISER_BYTES = 28


class Precision(StrEnum):
    """What a network computes in."""

    FLOAT32 = "float32"
    AUTOCAST = "bfloat16 by autocast"
    BFLOAT16 = "bfloat16"

    @property
    def bytes(self) -> int:
        """Bytes of a number in a matrix product."""
        return FLOAT32 if self is Precision.FLOAT32 else BFLOAT16


@dataclass(frozen=True, slots=True)
class LayerWidths:
    """Numbers that one token has in a decoder layer.

    Attributes:
        hidden: residual stream.
        query: all attention heads' queries.
        key_value: all key-value heads' keys, and as many values.
        intermediate: inside the MLP.
        rank: of an adapter on each of the seven linear layers; 0 where the weights themselves learn.
        normed: queries and keys have norms of their own, as in Qwen3.
    """

    hidden: int
    query: int
    key_value: int
    intermediate: int
    rank: int = 0
    normed: bool = False


def key_value_bytes(layers: int, key_value_width: int, number_bytes: int) -> int:
    """Return what one token needs in the cache: a key and a value per layer."""
    return layers * 2 * key_value_width * number_bytes


def layer_activation_bytes(widths: LayerWidths, precision: Precision) -> int:
    """Return what the backward pass of one layer needs of one token.

    With weights that learn, a norm keeps its input, its normalised input and its output; attention keeps query, key,
    value and output; the MLP keeps gate, its activation, up and their product. Under autocast the norms are float32,
    and each linear layer after one keeps a copy of its own in bfloat16. With adapters the normalised input is not
    needed. A 16-bit trunk then hands each adapter a copy of its input in float32, but not under autocast.
    """
    d, q, k, f, r = widths.hidden, widths.query, widths.key_value, widths.intermediate, widths.rank
    normed = q + k if widths.normed else 0
    if not r:
        if precision is Precision.FLOAT32:
            return FLOAT32 * (6 * d + 2 * q + 2 * k + 4 * f + 2 * normed)
        return FLOAT32 * (4 * d + normed) + BFLOAT16 * (5 * d + 2 * q + 2 * k + 4 * f + normed)
    halves = 7 * FLOAT32 * r
    if precision is Precision.FLOAT32:
        return FLOAT32 * (4 * d + 2 * q + 2 * k + 4 * f + normed) + halves
    if precision is Precision.AUTOCAST:
        return FLOAT32 * (2 * d + normed) + BFLOAT16 * (2 * d + 2 * q + 2 * k + 4 * f) + halves // 2
    inputs = FLOAT32 * (5 * d + q + f)
    return FLOAT32 * (2 * d + normed) + BFLOAT16 * (2 * q + 2 * k + 3 * f) + inputs + halves


def activation_bytes(
    tokens: int, layers: int, widths: LayerWidths, precision: Precision, stream_bytes: int, *, checkpointing: bool
) -> int:
    """Return what a pass forward and backward over so many tokens keeps of all layers.

    With checkpointing, every layer's input, of `stream_bytes` a number, and all of the one layer that is being
    computed again.
    """
    layer = layer_activation_bytes(widths, precision)
    if not checkpointing:
        return tokens * layers * layer
    return tokens * (layers * widths.hidden * stream_bytes + layer)


def logits_bytes(tokens: int, vocabulary: int, piece_elements: int) -> int:
    """Return what scoring so many tokens needs, projected in pieces of at most so many elements."""
    return FLOAT32 * LOGIT_COPIES * min(tokens * vocabulary, max(piece_elements, vocabulary))


def forward_flops(read_parameters: int, layers: int, query_width: int, length: int) -> int:
    """Return the operations of reading one episode up to its hidden states.

    A multiplication and an addition per parameter and token; attention multiplies queries with keys and scores with
    values, on average over half of the episode.
    """
    return length * (2 * read_parameters + 2 * layers * query_width * length)


def head_flops(tokens: int, hidden: int, vocabulary: int) -> int:
    """Return the operations of projecting so many tokens to the vocabulary."""
    return 2 * tokens * hidden * vocabulary


def learning_factor(*, checkpointing: bool) -> int:
    """Return how many forward passes' worth a forward and backward pass is.

    The backward pass makes the gradients of inputs and of weights, each at the price of a forward pass, and
    checkpointing computes the forward pass again. A frozen trunk needs no gradients of its weights; the many small
    products of its adapters cost as much (docs/benchmarks.md).
    """
    return 4 if checkpointing else 3


def decode_seconds(
    rows: int,
    context: float,
    weight_bytes: int,
    token_bytes: int,
    flops: float,
    *,
    bandwidth: float,
    flops_per_second: float,
    overhead: float,
) -> float:
    """Return the time of sampling one token for each of `rows` episodes.

    Args:
        rows: episodes in flight.
        context: tokens that each has on average.
        weight_bytes: of all weights, read once.
        token_bytes: of one token in the cache.
        flops: operations per token.
        bandwidth: bytes of memory read in a second.
        flops_per_second: operations done in a second.
        overhead: seconds that starting the pass takes, while the device computes what was started before.
    """
    reading = (weight_bytes + rows * context * token_bytes) / bandwidth
    return max(reading, rows * flops / flops_per_second, overhead)
