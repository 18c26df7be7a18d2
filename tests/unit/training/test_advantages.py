import math

import pytest
import torch

from stepsearch.training.advantages import explained_variance, group_advantages, masked_gae, whiten


def test_rewards_reach_back_over_retrieved_text_without_discount() -> None:
    # Sampled at 0, 1 and 4; 2 and 3 were retrieved. With gamma = 1/2 and V = 0 the return of each is r + G_next / 2.
    rewards = torch.tensor([[0.0, 1.0, 9.0, 9.0, 4.0, 9.0]])
    mask = torch.tensor([[1, 1, 0, 0, 1, 0]])
    result = masked_gae(rewards, torch.zeros(1, 6), mask, gamma=0.5, gae_lambda=1.0)
    assert result.returns.tolist() == [[1.5, 3.0, 0.0, 0.0, 4.0, 0.0]]
    assert result.advantages.tolist() == result.returns.tolist()


def test_an_episode_is_held_against_its_group() -> None:
    # Totals of the first group 1 and 3, so 2 less and more than the mean over a deviation of sqrt(2); the 9 stands on
    # retrieved text. The second group is of one mind and says nothing.
    rewards = torch.tensor([[0.0, 1.0, 9.0], [1.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 1, 1]])
    away = 1 / math.sqrt(2)
    expected = [[-away, -away, 0.0], [away, away, away], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(group_advantages(rewards, mask, 2), torch.tensor(expected), rtol=0, atol=1e-5)


def test_deltas_use_the_value_of_the_next_sampled_token() -> None:
    # gae_lambda = 0: A_t = r_t + gamma * V_next - V_t; the 100 stands on retrieved text and must not be read.
    values = torch.tensor([[1.0, 100.0, 2.0, 100.0]])
    rewards = torch.tensor([[0.5, 0.0, 3.0, 0.0]])
    result = masked_gae(rewards, values, torch.tensor([[1, 0, 1, 0]]), gamma=0.5, gae_lambda=0.0)
    assert result.advantages.tolist() == [[0.5, 0.0, 1.0, 0.0]]
    assert result.returns.tolist() == [[1.5, 0.0, 3.0, 0.0]]


def test_rows_of_different_length_end_with_a_value_of_zero() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0], [2.0, 0.0, 0.0]])
    values = torch.tensor([[0.5, 0.5, 0.5], [0.5, 7.0, 7.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    result = masked_gae(rewards, values, mask, gamma=1.0, gae_lambda=1.0)
    assert result.advantages.tolist() == [[0.5, 0.5, 0.5], [1.5, 0.0, 0.0]]
    assert result.returns.tolist() == [[1.0, 1.0, 1.0], [2.0, 0.0, 0.0]]


def test_a_batch_in_which_nothing_was_sampled_has_no_advantages() -> None:
    result = masked_gae(torch.ones(2, 3), torch.ones(2, 3), torch.zeros(2, 3), gamma=1.0, gae_lambda=1.0)
    assert result.advantages.tolist() == [[0.0] * 3] * 2
    assert result.returns.tolist() == [[0.0] * 3] * 2


def test_whitening_ignores_what_is_off_the_mask() -> None:
    values = torch.tensor([[1.0, 3.0, 50.0]])
    mask = torch.tensor([[1, 1, 0]])
    # Mean 2, unbiased variance 2.
    assert (whiten(values, mask) * mask).tolist()[0] == pytest.approx([-1 / math.sqrt(2), 1 / math.sqrt(2), 0.0])


def test_one_token_or_equal_ones_whiten_to_zero() -> None:
    assert whiten(torch.tensor([[5.0, 1.0]]), torch.tensor([[1, 0]]))[0, 0] == 0.0
    assert whiten(torch.full((2, 2), 3.0), torch.ones(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("values", "expected"), [([1.0, 2.0, 3.0], 1.0), ([2.0, 2.0, 2.0], 0.0), ([3.0, 2.0, 1.0], -3.0)]
)
def test_explained_variance(values: list[float], expected: float) -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0, 99.0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    assert explained_variance(torch.tensor([[*values, 0.0]]), returns, mask) == pytest.approx(expected)


def test_explained_variance_of_returns_that_do_not_vary_is_zero() -> None:
    assert explained_variance(torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1, 2)) == 0.0
