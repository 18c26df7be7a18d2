import math

import pytest
import torch

from stepsearch.training.losses import clipped_policy_loss, clipped_value_loss, entropy_sum

ONES = torch.ones(1, 1)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, 0),
        (1.5, 2.0, -2.4, 1),  # gain is held at 1.2
        (0.5, 2.0, -1.0, 0),  # a step back in the wrong direction is paid in full
        (0.5, -2.0, 1.6, 1),  # loss is held at 0.8
        (1.5, -2.0, 3.0, 0),
    ],
)
def test_policy_loss_of_one_token(ratio: float, advantage: float, loss: float, clipped: int) -> None:
    result = clipped_policy_loss(ONES * math.log(ratio), ONES * 0, ONES * advantage, ONES, 0.2)
    assert float(result.loss) == pytest.approx(loss)
    assert int(result.clipped) == clipped
    assert float(result.approx_kl) == pytest.approx(-math.log(ratio))
    assert float(result.ratio_max) == pytest.approx(ratio)


def test_policy_loss_sums_sampled_tokens_alone() -> None:
    logprobs = torch.tensor([[0.0, -1e9, 0.0]], requires_grad=True)
    mask = torch.tensor([[1, 0, 1]])
    advantages = torch.tensor([[1.0, math.inf, 3.0]])
    result = clipped_policy_loss(logprobs, torch.zeros(1, 3), advantages, mask, 0.2)
    result.loss.backward()
    assert result.loss.item() == -4.0
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [[-1.0, 0.0, -3.0]]


@pytest.mark.parametrize(
    ("value", "target", "loss", "clipped"),
    [(0.25, 1.0, 0.28125, 0), (1.0, 1.0, 0.125, 1), (-0.4, 0.0, 0.08, 0), (2.0, 3.0, 3.125, 1)],
)
def test_value_loss_of_one_token(value: float, target: float, loss: float, clipped: int) -> None:
    # The old value is 0 and the clip 0.5: past it the error is that of +-0.5 where that is larger.
    result = clipped_value_loss(ONES * value, ONES * 0, ONES * target, ONES, 0.5)
    assert float(result.loss) == pytest.approx(loss)
    assert int(result.clipped) == clipped


def test_value_loss_and_entropy_ignore_what_is_off_the_mask() -> None:
    mask = torch.tensor([[1, 0]])
    wild = torch.tensor([[1.0, math.nan]])
    assert float(clipped_value_loss(wild, wild, wild * 0, mask, 9.0).loss) == 0.5
    assert float(entropy_sum(wild, mask)) == 1.0
