import threading
from functools import partial

import pytest

from stepsearch.side_by_side import side_by_side


def test_results_stand_in_the_order_of_the_parts() -> None:
    second_is_done = threading.Event()

    def first() -> str:
        assert second_is_done.wait(10)
        return "first"

    def second() -> str:
        second_is_done.set()
        return "second"

    assert side_by_side([first, second], workers=2) == ["first", "second"]


def test_one_worker_stays_in_the_calling_thread() -> None:
    assert side_by_side([threading.get_ident] * 3, workers=1) == [threading.get_ident()] * 3


def test_the_first_failure_is_raised_when_all_parts_have_ended() -> None:
    ended: list[int] = []

    def part(number: int) -> None:
        ended.append(number)
        if number:
            raise ValueError(f"part {number}")

    with pytest.raises(ValueError, match="part 1"):
        side_by_side([partial(part, number) for number in range(3)], workers=2)
    assert sorted(ended) == [0, 1, 2]
