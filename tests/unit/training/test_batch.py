import math
from pathlib import Path

import pytest
import torch

from stepsearch.errors import TrainingError
from stepsearch.training.batch import (
    PPOBatch,
    collate,
    deal,
    microbatches,
    save_failed_batch,
    shared_microbatches,
)


def test_episodes_are_padded_on_the_right(make_trajectory) -> None:
    short, long = make_trajectory((1,)), make_trajectory((1, 0, 1))
    batch = collate([short, long], [[0.5], [0.0, 0.0, 2.0]], pad_id=7)
    assert batch.input_ids.tolist() == [[5, 6, 10, 7, 7], [5, 6, 10, 11, 12]]
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.response_mask.tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 0, 1]]
    assert batch.token_level_scores.tolist() == [[0, 0, 0.5, 0, 0], [0, 0, 0, 0, 2.0]]
    assert batch.rollout_logprobs.tolist() == [[0, 0, -1, 0, 0], [0, 0, -1, 0, -1]]
    assert batch.lengths == [3, 5]


def test_selected_rows_are_cut_to_the_longest_of_them(make_trajectory) -> None:
    batch = collate([make_trajectory((1,)), make_trajectory((1, 0, 1))], [[0.5], [0.0, 0.0, 2.0]], pad_id=7)
    assert batch.select([0]).input_ids.tolist() == [[5, 6, 10]]
    assert batch.select([1, 0]).input_ids.tolist() == [[5, 6, 10, 11, 12], [5, 6, 10, 7, 7]]


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_reward_that_is_no_number_is_refused(make_trajectory, score: float) -> None:
    with pytest.raises(TrainingError, match="question 'b' is not a finite number"):
        collate([make_trajectory((1,)), make_trajectory((1,), name="b")], [[0.0], [score]], pad_id=0)


def test_no_episode_is_refused() -> None:
    with pytest.raises(TrainingError, match="no episode"):
        collate([], [], pad_id=0)


def test_microbatches_group_by_length_within_the_budget() -> None:
    # Rows of 9, then 5 + 5 (10 <= 12), then 4 + 4, to which 1 would add three of padding.
    assert microbatches([5, 9, 4, 5, 1, 4], 12) == [[1], [0, 3], [2, 5], [4]]


def test_a_small_group_takes_any_row() -> None:
    # An eighth of the budget is 50 tokens: 40 takes the row of 10, and then is too large to take another.
    assert microbatches([40, 10, 10, 10], 400) == [[0, 1], [2, 3]]


def test_a_row_beyond_the_budget_stands_alone() -> None:
    assert microbatches([3, 50], 10) == [[1], [0]]


def test_a_failed_batch_is_written_by_field(tmp_path: Path, make_trajectory) -> None:
    episodes = collate([make_trajectory((1,))], [[0.5]], pad_id=7)
    zeros = torch.zeros(1, 3)
    batch = PPOBatch(
        **episodes.tensors(),
        token_level_rewards=zeros,
        old_logprobs=zeros,
        ref_logprobs=None,
        old_values=zeros,
        advantages=zeros,
        returns=zeros,
    )
    saved = torch.load(save_failed_batch(tmp_path / "failed_batch", 12, batch), weights_only=True)
    assert saved["input_ids"].tolist() == [[5, 6, 10]]
    assert saved["ref_logprobs"] is None


def test_rows_go_to_the_process_with_the_fewest_tokens() -> None:
    # Longest first: 9 | 5; 5 + 5 | 9; 9 + 1 | 10.
    assert deal([5, 9, 1, 5], 2) == [[1, 2], [0, 3]]
    assert deal([5, 9, 1, 5], 1) == [[0, 1, 2, 3]]


def test_all_processes_have_as_many_microbatches() -> None:
    # With 10 tokens at a time, the first process passes 9 and 1, the second two rows of 5.
    assert shared_microbatches([5, 9, 1, 5], 10, 0, 2) == [[1], [2]]
    assert shared_microbatches([5, 9, 1, 5], 10, 1, 2) == [[0, 3], []]
    # One row leaves the second process with none.
    assert shared_microbatches([7], 10, 1, 2) == [[]]


def test_a_part_of_no_rows_counts_nothing(make_trajectory) -> None:
    batch = collate([make_trajectory()], [[0.0] * len(make_trajectory().response_ids)], pad_id=0)
    blank = batch.part([])
    assert blank.input_ids.shape == (1, 2)
    assert not blank.response_mask.any()
    assert batch.part([0]).input_ids.tolist() == batch.input_ids.tolist()
