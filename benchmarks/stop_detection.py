"""Detecting a stop tag over token ids, beside decoding each row's segment and searching it for the tags.

    OMP_NUM_THREADS=1 python benchmarks/stop_detection.py

Every row samples tokens at random from a vocabulary of 151,936, the size of Qwen2.5's; one token in a thousand carries
a tag. The automaton advances all rows by one table look-up per token. The other side joins the pieces of a row's
segment so far and searches the text, once per row and token. Both must close at the same tokens, else the benchmark
fails.
"""

import argparse
import time
from statistics import median

import numpy as np

from stepsearch.models.stop_automaton import StopAutomaton
from stepsearch.protocol import STOP_TAGS


def draw_pieces(draw: np.random.Generator, vocabulary: int) -> list[str]:
    """Return the text of each token: 1 to 8 letters, parts of tags among them, and a few whole tags."""
    letters = np.array(list("abcdefgh<>/ searchanswer"))
    pieces = ["".join(draw.choice(letters, size=size)) for size in draw.integers(1, 9, size=vocabulary)]
    for index in range(0, vocabulary, 1000):
        pieces[index] += STOP_TAGS[index // 1000 % len(STOP_TAGS)]
    return pieces


def closed_by_automaton(automaton: StopAutomaton, tokens: np.ndarray) -> np.ndarray:
    """Return [rows, tokens] whether a tag has closed by then."""
    states = np.full(len(tokens), automaton.start, dtype=np.int64)
    closed = np.zeros(tokens.shape, dtype=bool)
    for position in range(tokens.shape[1]):
        states = automaton.advance(states, tokens[:, position])
        closed[:, position] = states == automaton.closed
    return closed


def closed_by_text(pieces: list[str], tokens: np.ndarray) -> np.ndarray:
    """Return [rows, tokens] whether the text so far holds a tag."""
    closed = np.zeros(tokens.shape, dtype=bool)
    for row, ids in enumerate(tokens.tolist()):
        for position in range(len(ids)):
            text = "".join(pieces[token] for token in ids[: position + 1])
            closed[row, position] = any(tag in text for tag in STOP_TAGS)
    return closed


def main() -> None:
    """Print the seconds of building the automaton, and microseconds per row and token of both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    pieces = draw_pieces(draw, options.vocabulary)
    tokens = draw.integers(0, options.vocabulary, size=(options.rows, options.tokens))
    measured: dict[str, list[float]] = {"build ms": [], "automaton µs/token": [], "text µs/token": [], "ratio": []}
    for _ in range(options.repeats):
        times = [time.process_time()]
        automaton = StopAutomaton(pieces, STOP_TAGS, options.vocabulary)
        times.append(time.process_time())
        ours = closed_by_automaton(automaton, tokens)
        times.append(time.process_time())
        theirs = closed_by_text(pieces, tokens)
        times.append(time.process_time())
        assert (ours == theirs).all()
        build, quick, slow = np.diff(times)
        row = (1000 * build, 1e6 * quick / tokens.size, 1e6 * slow / tokens.size, slow / quick)
        for values, value in zip(measured.values(), row, strict=True):
            values.append(value)
    print(f"vocabulary {options.vocabulary}, {options.rows} rows of {options.tokens} tokens, numpy {np.__version__}")
    print(f"{'':18}  {'min':>8}  {'median':>8}  {'max':>8}")
    for name, values in measured.items():
        print(f"{name:18}  {min(values):8.2f}  {median(values):8.2f}  {max(values):8.2f}")


if __name__ == "__main__":
    main()
