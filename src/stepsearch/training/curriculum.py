"""The batches of a warm start's phases, one after the other."""

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from stepsearch.config import WarmStartPhase
from stepsearch.preparation.demonstrations import Demonstration, DemonstrationWriter, ReadingDrills
from stepsearch.training.demonstration_batches import DemonstrationBatch, DemonstrationEncoder, endless_batches
from stepsearch.types import Question

_CHUNK = 512


def curriculum(
    questions: Sequence[Question],
    writer: DemonstrationWriter,
    encoder: DemonstrationEncoder,
    phases: Sequence[WarmStartPhase],
    seed: int,
) -> Iterator[DemonstrationBatch]:
    """Yield the batches of all phases, one per update."""
    rng = random.Random(f"warm start {seed}")
    for phase in phases:
        source = _source(questions, writer, phase, rng)
        yield from islice(endless_batches(source, encoder, phase.tokens, rng), phase.updates)


def _source(
    questions: Sequence[Question], writer: DemonstrationWriter, phase: WarmStartPhase, rng: random.Random
) -> Callable[[], list[Demonstration]]:
    """Return what writes the next demonstrations of a phase."""
    if phase.kind == "reading":
        drills = ReadingDrills(questions)
        return lambda: drills.write(_CHUNK, rng)
    chunks = _endless_chunks(questions, rng)
    return lambda: writer.write(next(chunks), phase, rng)


def _endless_chunks(questions: Sequence[Question], rng: random.Random) -> Iterator[list[Question]]:
    """Yield the questions in random order, epoch after epoch, some hundred at a time."""
    while True:
        order = rng.sample(questions, len(questions))
        yield from (order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK))
