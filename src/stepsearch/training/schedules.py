"""What changes with the training step alone: learning rates and the order of questions.

Both are functions of the step, so that a resumed run has nothing of them to restore.
"""

import random
from functools import lru_cache


def warmup_factor(step: int, total_steps: int, warmup_ratio: float) -> float:
    """Return the share of the peak learning rate at `step` (from 0): a linear rise, then 1.

    The rise takes `warmup_ratio * total_steps` steps; the first step already learns.
    """
    warmup_steps = warmup_ratio * total_steps
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps > 1 else 1.0


def total_steps(questions: int, batch_size: int, num_epochs: int, max_steps: int | None) -> int:
    """Return how many steps a run has; the last batch is filled up from a further epoch."""
    return -(-num_epochs * questions // batch_size) if max_steps is None else max_steps


def question_indices(step: int, batch_size: int, questions: int, seed: int) -> list[int]:
    """Return which questions `step` (from 0) asks: a slice of endless epochs, each in an order of its own."""
    places = range(step * batch_size, (step + 1) * batch_size)
    return [_epoch_order(questions, seed, place // questions)[place % questions] for place in places]


@lru_cache(maxsize=4)
def _epoch_order(questions: int, seed: int, epoch: int) -> tuple[int, ...]:
    order = list(range(questions))
    random.Random(f"epoch order {seed} {epoch}").shuffle(order)
    return tuple(order)


def minibatch_rows(rows: int, minibatch_size: int | None, *key: int) -> list[list[int]]:
    """Return the rows of each minibatch: a shuffle that is a function of `key`, cut into pieces of nearly equal size.

    There are as many pieces as hold `minibatch_size` rows each, the remainder being shared out.
    """
    if minibatch_size is None or minibatch_size >= rows:
        return [list(range(rows))]
    order = list(range(rows))
    random.Random(f"minibatches {key}").shuffle(order)
    pieces = -(-rows // minibatch_size)
    return [order[rows * i // pieces : rows * (i + 1) // pieces] for i in range(pieces)]
