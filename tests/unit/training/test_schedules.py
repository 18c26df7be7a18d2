import pytest

from stepsearch.training.schedules import minibatch_rows, question_indices, total_steps, warmup_factor


def test_the_rate_rises_over_the_share_of_steps_and_stays() -> None:
    assert [warmup_factor(step, 20, 0.2) for step in (0, 1, 2, 3, 4, 19)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(("steps", "ratio"), [(20, 0.0), (20, 0.05), (0, 0.5), (1, 1.0)])
def test_without_a_whole_step_to_rise_over_the_rate_is_full_at_once(steps: int, ratio: float) -> None:
    assert warmup_factor(0, steps, ratio) == 1.0


@pytest.mark.parametrize(
    ("questions", "batch", "epochs", "max_steps", "steps"),
    [(10, 4, 2, None, 5), (10, 3, 1, None, 4), (10, 4, 2, 7, 7), (10, 4, 2, 0, 0)],
)
def test_total_steps(questions: int, batch: int, epochs: int, max_steps: int | None, steps: int) -> None:
    assert total_steps(questions, batch, epochs, max_steps) == steps


def test_every_epoch_asks_each_question_once_in_an_order_of_its_own() -> None:
    asked = [index for step in range(10) for index in question_indices(step, 3, 10, seed=5)]
    epochs = [asked[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_depends_on_the_seed_alone() -> None:
    assert question_indices(7, 4, 100, seed=1) == question_indices(7, 4, 100, seed=1)
    assert question_indices(7, 4, 100, seed=1) != question_indices(7, 4, 100, seed=2)


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert sorted(question_indices(0, 5, 2, seed=0)) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_minibatches_share_the_rows_out() -> None:
    pieces = minibatch_rows(10, 4, 0, 1)
    assert [len(piece) for piece in pieces] == [3, 3, 4]
    assert sorted(row for piece in pieces for row in piece) == list(range(10))
    assert pieces == minibatch_rows(10, 4, 0, 1)
    assert pieces != minibatch_rows(10, 4, 0, 2)


@pytest.mark.parametrize("size", [None, 10, 99])
def test_without_a_smaller_size_the_whole_batch_is_one_minibatch(size: int | None) -> None:
    assert minibatch_rows(10, size, 0) == [list(range(10))]
