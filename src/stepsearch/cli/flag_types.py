"""Numbers that flags take, each within its bounds."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def _number(
    expected: str, read: Callable[[str], Number], is_within: Callable[[Number], bool]
) -> Callable[[str], Number]:
    """Return a type for argparse, which says `expected <expected>, got '0'` of what is not one."""

    def number(text: str) -> Number:
        try:
            value = read(text)
        except ValueError:
            value = None
        if value is None or not is_within(value):
            raise ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return number


positive = _number("a whole number of at least 1", int, lambda value: value >= 1)
natural = _number("a whole number of at least 0", int, lambda value: value >= 0)
share = _number("a number above 0 and at most 1", float, lambda value: 0 < value <= 1)
amount = _number("a number above 0", float, lambda value: 0 < value < float("inf"))
