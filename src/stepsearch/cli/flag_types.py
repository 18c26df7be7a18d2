"""Numbers that flags take, each within its bounds."""

from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def _number(name: str, read: Callable[[str], Number], is_within: Callable[[Number], bool]) -> Callable[[str], Number]:
    """Return a type for argparse, which says `invalid <name> value: '0'` of what is not one."""

    def number(text: str) -> Number:
        value = read(text)
        if not is_within(value):
            raise ValueError
        return value

    number.__name__ = name
    return number


positive = _number("positive number", int, lambda value: value >= 1)
natural = _number("whole number", int, lambda value: value >= 0)
share = _number("number above 0 and at most 1", float, lambda value: 0 < value <= 1)
amount = _number("number above 0", float, lambda value: 0 < value < float("inf"))
