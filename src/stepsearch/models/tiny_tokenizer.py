"""The tiny policy's tokenizer: Qwen2's own kind (bytes, then merges), with merges made on the spot.

There is no unknown token: what has no piece is spelled in bytes. The words of the generated world, of the tag grammar
and of the demonstrations are one piece each, and a made-up name is two syllables. It is Qwen2's class and not one of
our own because transformers loads every Qwen2 checkpoint with that, whatever the checkpoint says.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise, product
from typing import cast

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AddedToken, Qwen2Tokenizer

from stepsearch import protocol
from stepsearch.data.synthetic import FIRST_NAMES, SYLLABLES, sample_texts
from stepsearch.preparation.demonstrations import sample_thoughts

PAD, EOS = "<pad>", "<eos>"
_SPACE = "Ġ"  # How a byte-level vocabulary writes the space that belongs to the word after it.
_ALPHABET = sorted(ByteLevel.alphabet())

Merge = tuple[str, str]


def build_tiny_tokenizer() -> Qwen2Tokenizer:
    """Return the tokenizer. Each tag of the grammar is one token."""
    merges = [*_name_merges(), *_word_merges()]
    spelled = cast(list[str], merges)  # transformers' annotation knows only the form of merges.txt.
    tokenizer = Qwen2Tokenizer(vocab=_vocabulary(merges), merges=spelled, unk_token=EOS, eos_token=EOS, pad_token=PAD)
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in protocol.TAGS])
    return tokenizer


def name_token_groups(tokenizer: Qwen2Tokenizer) -> list[list[int]]:
    """Return the ids that names are made of, grouped by the place they take: first syllables, second ones, first names.

    Within a group one id is as good as another, so that permuting it leaves every text as sensible as it was.
    """
    first = [_SPACE + syllable.capitalize() for syllable in SYLLABLES]
    groups = (first, list(SYLLABLES), [_SPACE + name for name in FIRST_NAMES])
    return [cast(list[int], tokenizer.convert_tokens_to_ids(group)) for group in groups]


def single_piece_texts() -> list[str]:
    """Return texts whose every word must be one piece: if one were split, its pieces could be mistaken for a name's."""
    grammar = [protocol.render_prompt("question", "Who?"), protocol.CORRECTION, protocol.NO_SEARCH_LEFT]
    observations = [protocol.NO_RESULTS, protocol.SEARCH_FAILED, protocol.passage_heading(1, " ")]
    return [*sample_texts(), *sample_thoughts(), *grammar, *observations]


def _vocabulary(merges: Sequence[Merge]) -> dict[str, int]:
    pieces = dict.fromkeys([PAD, EOS, *_ALPHABET, *(left + right for left, right in merges)])
    return {piece: number for number, piece in enumerate(pieces)}


def _name_merges() -> list[Merge]:
    """Return the merges that make a name of two syllables two pieces: end of syllable, blank and capital, syllable."""
    starts, ends = sorted({syllable[0] for syllable in SYLLABLES}), sorted({syllable[1:] for syllable in SYLLABLES})
    capitals = [start.upper() for start in starts]
    opened = [(_SPACE, capital) for capital in capitals]
    syllables = [*product((_SPACE + capital for capital in capitals), ends), *product(starts, ends)]
    return [*((end[0], end[1:]) for end in ends), *opened, *syllables]


@functools.cache
def _word_merges() -> tuple[Merge, ...]:
    """Return the merges that make every word of `single_piece_texts` one piece, found as BPE is trained.

    They come after those of the names, which therefore stay as they are.
    """
    words = _words_in_pieces()
    merges: list[Merge] = []
    while counts := Counter(pair for word in words for pair in pairwise(word)):
        best = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        words = [_merge(word, best) for word in words]
    return tuple(merges)


def _words_in_pieces() -> list[list[str]]:
    """Return every word, once, as the pieces that the merges of names leave it in."""
    splitter = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    texts = [re.sub(r"\{\w*\}|</?\w+>", "\n", text) for text in single_piece_texts()]
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    merges = _name_merges()
    speller = Tokenizer(BPE(vocab=_vocabulary(merges), merges=merges))
    return [speller.encode(word).tokens for word in words]


def _merge(word: list[str], pair: Merge) -> list[str]:
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
