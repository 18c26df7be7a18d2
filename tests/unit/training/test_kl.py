import math

import pytest
import torch

from stepsearch.training.kl import k1, k3


def test_estimators_of_one_token_that_the_policy_likes_twice_as_much() -> None:
    logprobs, ref_logprobs = torch.tensor([[math.log(0.5)]]), torch.tensor([[math.log(0.25)]])
    assert float(k1(logprobs, ref_logprobs)) == pytest.approx(math.log(2))
    assert float(k3(logprobs, ref_logprobs)) == pytest.approx(0.5 - 1 + math.log(2))


def test_k1_and_k3_have_the_kl_divergence_as_their_mean() -> None:
    policy, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.3, 0.3, 0.4])
    divergence = float((policy * (policy / reference).log()).sum())
    for estimator in (k1, k3):
        assert float((policy * estimator(policy.log(), reference.log())).sum()) == pytest.approx(divergence, rel=1e-5)


def test_k3_of_a_token_that_the_policy_has_lost_is_finite() -> None:
    assert math.isfinite(float(k3(torch.tensor([-1000.0]), torch.tensor([0.0]))))
