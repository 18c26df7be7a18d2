"""How close a predicted answer is to the gold answers: SQuAD's normalisation, exact match and token F1."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_HOTPOT_CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})
# Whose published evaluation scripts have the rule of `hotpot_f1`.
_HOTPOT_SCORED = frozenset({"hotpotqa", "2wiki"})


@lru_cache(maxsize=1 << 14)
def normalize(text: str) -> str:
    """Return `text` in lower case without ASCII punctuation, the articles a/an/the and superfluous white space."""
    without_punctuation = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", without_punctuation).split())


def exact_match(prediction: str | None, answers: Sequence[str]) -> float:
    """Return 1.0 when the prediction equals one of the answers after normalisation, else 0.0.

    What normalises to nothing ("A", "The The") is compared as it was written.
    """
    return _best(prediction, answers, _exact_match)


def token_f1(prediction: str | None, answers: Sequence[str]) -> float:
    """Return the best F1 over token multisets of the prediction against each answer; 0.0 without a prediction.

    What normalises to nothing ("A", "The The") is compared as it was written.
    """
    return _best(prediction, answers, lambda guess, gold: _overlap_f1(_comparable(guess), _comparable(gold)))


def squad_f1(prediction: str | None, answers: Sequence[str]) -> float:
    """Return SQuAD's published F1: as `token_f1`, but what normalises to nothing scores 0."""
    return _best(prediction, answers, lambda guess, gold: _overlap_f1(normalize(guess), normalize(gold)))


def hotpot_f1(prediction: str | None, answers: Sequence[str]) -> float:
    """Return HotpotQA's F1: as `token_f1`, but a yes, no or noanswer on either side scores 0 unless both are equal."""
    return _best(prediction, answers, _hotpot_f1)


def dataset_f1(prediction: str | None, answers: Sequence[str], dataset: str) -> float:
    """Return F1 by the rule of the dataset's published script: `hotpot_f1` for hotpotqa and 2wiki, else `token_f1`."""
    return (hotpot_f1 if dataset in _HOTPOT_SCORED else token_f1)(prediction, answers)


def cover_exact_match(prediction: str | None, answers: Sequence[str]) -> float:
    """Return 1.0 when the words of one of the answers stand in the prediction, in a row, after normalisation.

    Words, not characters: "no" does not stand in "Norway".
    """
    return _best(prediction, answers, _covers)


def _best(prediction: str | None, answers: Sequence[str], score: Callable[[str, str], float]) -> float:
    if prediction is None:
        return 0.0
    return max((score(prediction, answer) for answer in answers), default=0.0)


def _comparable(text: str) -> str:
    return normalize(text) or text.strip()


def _exact_match(prediction: str, answer: str) -> float:
    return float(_comparable(prediction) == _comparable(answer))


def _covers(prediction: str, answer: str) -> float:
    return float(f" {_comparable(answer)} " in f" {_comparable(prediction)} ")


def _hotpot_f1(prediction: str, answer: str) -> float:
    guess, gold = _comparable(prediction), _comparable(answer)
    if guess != gold and (guess in _HOTPOT_CLOSED_ANSWERS or gold in _HOTPOT_CLOSED_ANSWERS):
        return 0.0
    return _overlap_f1(guess, gold)


def _overlap_f1(prediction: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall over the two texts' words."""
    guess, gold = prediction.split(), answer.split()
    overlap = sum((Counter(guess) & Counter(gold)).values())
    if overlap == 0:
        return 0.0
    precision, recall = overlap / len(guess), overlap / len(gold)
    return 2 * precision * recall / (precision + recall)
