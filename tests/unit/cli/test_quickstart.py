"""What the last line of a quickstart is said of."""

from typing import Any

import pytest

from stepsearch.cli.quickstart import start_was_too_short


def summary(**changes: dict[str, float]) -> dict[str, Any]:
    """Return figures of a run in which nothing was right or found, but for these changes."""
    whens = ("before", "after", "before_sampled", "after_sampled")
    return {when: {"em": 0.0, "golden_recall": 0.0} | changes.get(when, {}) for when in whens}


def test_a_start_that_found_and_answered_nothing_was_too_short() -> None:
    assert start_was_too_short(summary())
    assert start_was_too_short(summary(before={"golden_recall": 0.02}, after={"golden_recall": 0.3}))


@pytest.mark.parametrize("when", ["before", "after", "before_sampled", "after_sampled"])
def test_one_right_answer_is_something_to_reward(when: str) -> None:
    assert not start_was_too_short(summary(**{when: {"em": 0.01}}))


@pytest.mark.parametrize("when", ["before", "before_sampled"])
def test_so_are_documents_that_were_found(when: str) -> None:
    assert not start_was_too_short(summary(**{when: {"golden_recall": 0.3}}))
