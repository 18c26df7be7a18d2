"""Demonstrations as padded token batches, with the tokens that the policy is to write marked."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from stepsearch.errors import TrainingError
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.preparation.demonstrations import Demonstration, Observed, Written
from stepsearch.protocol import NO_SEARCH_LEFT
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search.guarded_search import SearchOutcome


@dataclass(frozen=True, slots=True)
class Example:
    """One demonstration in tokens; `written` is 1 where the policy is to write the token itself.

    `where` says to people which one.
    """

    ids: list[int]
    written: list[int]
    where: str = "a demonstration"


@dataclass(frozen=True, slots=True)
class DemonstrationBatch:
    """Examples padded on the right.

    Attributes:
        input_ids: [B, T].
        written: [B, T] true where the token counts.
        tokens: how many are no padding.
    """

    input_ids: Tensor
    written: Tensor
    tokens: int

    def to(self, device: torch.device) -> "DemonstrationBatch":
        """Return the batch on another device."""
        return DemonstrationBatch(self.input_ids.to(device), self.written.to(device), self.tokens)


class DemonstrationEncoder:
    """Turns demonstrations into the very tokens that a rollout would hold.

    Args:
        tokenizer: the policy's.
        observations: writes search results, as in a rollout.
        max_length: longer examples are left out.
    """

    def __init__(self, tokenizer: ModelTokenizer, observations: ObservationBuilder, max_length: int) -> None:
        self.pad_id = tokenizer.pad_id
        self._tokenizer = tokenizer
        self._observations = observations
        self._max_length = max_length
        self._no_search_left = tokenizer.encode_markup(NO_SEARCH_LEFT)

    def encode(self, demonstrations: Sequence[Demonstration]) -> list[Example]:
        """Return the examples that fit, in order."""
        return [example for example in self.encode_all(demonstrations) if len(example.ids) <= self._max_length]

    def encode_all(self, demonstrations: Sequence[Demonstration]) -> list[Example]:
        """Return every example, in order, however long."""
        segments = list(chain.from_iterable(demonstration.segments for demonstration in demonstrations))
        texts = [segment.text for segment in segments if isinstance(segment, Written)]
        outcomes = [SearchOutcome(segment.passages, False) for segment in segments if isinstance(segment, Observed)]
        written = iter(self._tokenizer.hf(texts, add_special_tokens=False)["input_ids"] if texts else [])
        observed = iter(self._observations.build(outcomes))
        return [self._join(demonstration, written, observed) for demonstration in demonstrations]

    def _join(
        self, demonstration: Demonstration, written: Iterator[list[int]], observed: Iterator[list[int]]
    ) -> Example:
        prompt = self._tokenizer.encode_prompt(demonstration.question) if demonstration.question is not None else []
        ids, marks = list(prompt), [0] * len(prompt)
        for segment in demonstration.segments:
            added = next(written) if isinstance(segment, Written) else next(observed)
            if isinstance(segment, Observed) and segment.was_last:
                added = added + self._no_search_left
            ids += added
            marks += [int(isinstance(segment, Written))] * len(added)
        return Example(ids, marks, demonstration.where)


def endless_batches(
    write: Callable[[], Sequence[Demonstration]], encoder: DemonstrationEncoder, tokens: int, rng: random.Random
) -> Iterator[DemonstrationBatch]:
    """Yield batches of at most `tokens` tokens, padding included, for ever; `write` gives the next demonstrations.

    Rows of a batch have similar lengths, and batches come in random order.

    Raises:
        TrainingError: what is written yields no example that fits a batch.
    """
    while True:
        examples = [example for example in encoder.encode(write()) if len(example.ids) <= tokens]
        if not examples:
            raise TrainingError(
                "the warm start has nothing to learn from: no demonstration could be written (they need questions with "
                "subquestions whose search_queries find the answers, docs/data_formats.md), or none fits into "
                "model.max_length and the tokens of its phase"
            )
        batches = _by_length(examples, tokens)
        rng.shuffle(batches)
        yield from (pad_examples(batch, encoder.pad_id) for batch in batches)


def permute_tokens(input_ids: Tensor, groups: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Return `input_ids` [B, T] with the ids of each group permuted among themselves, anew for every row.

    What is left to learn of a name is then where it stood before.
    """
    rows = len(input_ids)
    size = int(max(input_ids.max(), *(group.max() for group in groups))) + 1 if groups else 0
    mapping = torch.arange(size).repeat(rows, 1)
    for group in groups:
        order = torch.rand(rows, len(group), generator=generator).argsort(dim=1)
        mapping[:, group] = group[order]
    return mapping.gather(1, input_ids) if groups else input_ids


def _by_length(examples: Sequence[Example], tokens: int) -> list[list[Example]]:
    batches: list[list[Example]] = [[]]
    for example in sorted(examples, key=lambda example: len(example.ids)):
        if len(example.ids) * (len(batches[-1]) + 1) > tokens:
            batches.append([])
        batches[-1].append(example)
    return batches


def pad_examples(batch: Sequence[Example], pad_id: int) -> DemonstrationBatch:
    """Return examples padded to the longest."""
    longest = max(len(example.ids) for example in batch)
    ids = [example.ids + [pad_id] * (longest - len(example.ids)) for example in batch]
    written = [example.written + [0] * (longest - len(example.ids)) for example in batch]
    tokens = sum(len(example.ids) for example in batch)
    return DemonstrationBatch(torch.tensor(ids), torch.tensor(written, dtype=torch.bool), tokens)
