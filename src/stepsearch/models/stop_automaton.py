"""Detects over token ids, without decoding, that a stop tag has closed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class StopAutomaton:
    """An Aho-Corasick automaton over characters, lifted to tokens: one table look-up per sampled token.

    Tags may be single tokens, be spelled over several, or begin and end inside tokens that carry other text.

    Args:
        pieces: the text that each token id adds.
        tags: what to detect.
        vocabulary: number of ids that can be sampled; those without a piece add no text.
    """

    start = 0

    def __init__(self, pieces: Sequence[str], tags: Sequence[str], vocabulary: int) -> None:
        prefixes = list(dict.fromkeys(["", *(tag[:length] for tag in tags for length in range(1, len(tag)))]))
        self.closed = len(prefixes)
        letters = {letter: index for index, letter in enumerate(dict.fromkeys("".join(tags)), 1)}
        moves = _character_moves(prefixes, tags, letters)
        symbols, lengths = _symbols([*pieces[:vocabulary], *[""] * (vocabulary - len(pieces))], letters)
        self._table = _token_moves(moves, symbols, lengths)

    def advance(self, states: NDArray[np.int64], token_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the states after one token each; `closed` stays closed.

        Args:
            states: [n] state of each row; `start` at the beginning of a segment.
            token_ids: [n] the token sampled in each row.
        """
        return self._table[states, token_ids].astype(np.int64)


def _character_moves(prefixes: Sequence[str], tags: Sequence[str], letters: dict[str, int]) -> NDArray[np.uint8]:
    """Return [states, letters + 1] the state after a letter; letter 0 stands for every other character."""
    closed = len(prefixes)
    index = {prefix: state for state, prefix in enumerate(prefixes)}
    moves = np.zeros((closed + 1, len(letters) + 1), dtype=np.uint8)
    moves[closed] = closed
    for prefix, state in index.items():
        for letter, symbol in letters.items():
            text = prefix + letter
            if text.endswith(tuple(tags)):
                moves[state, symbol] = closed
            else:
                moves[state, symbol] = next(index[text[cut:]] for cut in range(len(text) + 1) if text[cut:] in index)
    return moves


def _symbols(pieces: Sequence[str], letters: dict[str, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the letters of all pieces one after the other, and how many each has."""
    lengths = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
    text = "".join(pieces)
    codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)
    lookup = np.zeros(128, dtype=np.uint8)
    for letter, symbol in letters.items():
        lookup[ord(letter)] = symbol
    return np.where(codes < 128, lookup[np.minimum(codes, 127)], 0).astype(np.uint8), lengths


def _token_moves(moves: NDArray[np.uint8], symbols: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return [states, vocabulary] the state after a whole token, all tokens advanced together letter by letter."""
    offsets = np.cumsum(lengths) - lengths
    table = np.repeat(np.arange(len(moves), dtype=np.uint8)[:, None], len(lengths), axis=1)
    for position in range(int(lengths.max(initial=0))):
        tokens = np.flatnonzero(lengths > position)
        table[:, tokens] = moves[table[:, tokens], symbols[offsets[tokens] + position]]
    return table
