import math

import pytest
import torch

from stepsearch.config import TrainingSettings
from stepsearch.training.losses import clipped_policy_loss
from stepsearch.training.mismatch import importance_weights, measure_mismatch
from stepsearch.training.reading import reads_policy

# The trainer finds the tokens 2, 1/2 and 4 times as likely as the engine did; the last was not sampled.
RATIOS = torch.tensor([[2.0, 0.5, 4.0, 9.0]])
MASK = torch.tensor([[1, 1, 1, 0]])
ENGINE = torch.full((1, 4), -3.0)
TRAINER = ENGINE + RATIOS.log()


def test_mismatch_by_hand() -> None:
    found = measure_mismatch(TRAINER, ENGINE, MASK)

    assert float(found.gap) == pytest.approx(4 * math.log(2))
    # ratio - 1 - log(ratio): (1 - log 2) + (-1/2 + log 2) + (3 - 2 log 2)
    assert float(found.kl) == pytest.approx(3.5 - 2 * math.log(2))
    assert float(found.ratio_max) == pytest.approx(4.0)


def test_engines_that_agree_are_at_zero() -> None:
    found = measure_mismatch(ENGINE, ENGINE, MASK)

    assert [float(x) for x in found] == [0.0, 0.0, 1.0]
    assert float(measure_mismatch(ENGINE, ENGINE, MASK * 0).ratio_max) == 0.0


def test_weights_are_the_ratio_up_to_the_cap() -> None:
    assert importance_weights(TRAINER, ENGINE, MASK, 3.0).tolist() == [pytest.approx([2.0, 0.5, 3.0, 0.0])]


def test_a_weighted_advantage_weights_the_policy_loss() -> None:
    logprobs = TRAINER.clone().requires_grad_()
    advantages = torch.tensor([[1.0, -2.0, 1.0, 7.0]])

    weights = importance_weights(logprobs, ENGINE, MASK, 3.0)
    loss = clipped_policy_loss(logprobs, logprobs.detach(), advantages * weights, MASK, 0.2).loss
    loss.backward()

    # -A * weight per token; the ratio to the old policy is 1, and its gradient the only one.
    assert float(loss.detach()) == pytest.approx(-2.0 + 1.0 - 3.0)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [pytest.approx([-2.0, 1.0, -3.0, 0.0])]


@pytest.mark.parametrize(
    ("engine", "settings", "reads"),
    [
        ("in_process", {}, False),
        ("in_process", {"importance_cap": 2.0}, True),
        ("vllm", {}, True),
        ("vllm_server", {"old_logprobs": "rollout"}, False),
    ],
)
def test_the_policy_is_read_again_unless_it_samples_itself(engine: str, settings: dict, reads: bool) -> None:
    assert reads_policy(TrainingSettings(**settings), engine) is reads
