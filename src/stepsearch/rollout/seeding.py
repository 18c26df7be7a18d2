"""Random numbers as functions of names, not of history: the same episode draws the same noise wherever it runs."""

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _mix(value: int) -> int:
    """Return splitmix64's finaliser of a 64-bit value."""
    value = ((value ^ (value >> 30)) * _MULTIPLIERS[0]) & _MASK
    value = ((value ^ (value >> 27)) * _MULTIPLIERS[1]) & _MASK
    return value ^ (value >> 31)


def episode_seed(seed: int, *path: int) -> int:
    """Return a 64-bit seed for what `path` names (step, question, sample, ...) under a run's `seed`.

    Equal arguments give equal seeds on every machine; different ones unrelated seeds.
    """
    state = _mix((seed + _GOLDEN) & _MASK)
    for part in path:
        state = _mix((state + _GOLDEN + (part & _MASK)) & _MASK)
    return state


def token_noise(seeds: NDArray[np.uint64], positions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return uniform noise in [0, 1), a function of (seed, position) alone.

    Args:
        seeds: [n] episode seeds.
        positions: [n] absolute positions of the tokens to be sampled.
    """
    with np.errstate(over="ignore"):
        value = seeds + (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(_MULTIPLIERS[0])
        value = (value ^ (value >> np.uint64(27))) * np.uint64(_MULTIPLIERS[1])
        value = value ^ (value >> np.uint64(31))
    return (value >> np.uint64(11)).astype(np.float64) * 2.0**-53
