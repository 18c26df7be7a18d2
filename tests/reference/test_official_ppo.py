"""The numbers of the authors' own GAE, whitening, losses and KL estimators (cases/README.md says with which mask)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stepsearch.training.advantages import masked_gae, whiten
from stepsearch.training.kl import k1, k3
from stepsearch.training.losses import clipped_policy_loss, clipped_value_loss

CASES = Path(os.environ.get("STEPSEARCH_CASES", Path(__file__).parents[3] / "shared" / "cases"))
PATH = CASES / "official_ppo_cases.json"
TOLERANCE = 1e-6

pytestmark = pytest.mark.skipif(not PATH.is_file(), reason=f"{PATH} is not there")


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return json.loads(PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def inputs(cases: dict[str, Any]) -> dict[str, Tensor]:
    names = ("rewards", "values", "response_mask", "info_mask", "old_log_prob", "new_log_prob")
    return {name: torch.tensor(cases["inputs"][name]) for name in names}


def assert_equal(ours: Tensor, theirs: list[list[float]]) -> None:
    torch.testing.assert_close(ours, torch.tensor(theirs), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(1.0, 1.0), (0.99, 0.95)])
def test_gae_and_whitening(cases: dict[str, Any], inputs: dict[str, Tensor], gamma: float, gae_lambda: float) -> None:
    # Their recursion has no mask: it runs over all eight positions, padding included.
    everywhere = torch.ones_like(inputs["response_mask"])
    result = masked_gae(inputs["rewards"], inputs["values"], everywhere, gamma=gamma, gae_lambda=gae_lambda)
    expected = cases[f"gae_gamma{gamma}_lam{gae_lambda}"]
    assert_equal(result.returns, expected["returns"])
    assert_equal(whiten(result.advantages, inputs["response_mask"]), expected["advantages_whitened"])


def test_policy_loss(cases: dict[str, Any], inputs: dict[str, Tensor]) -> None:
    advantages = torch.tensor(cases["gae_gamma1.0_lam1.0"]["advantages_whitened"])
    mask = inputs["info_mask"]
    result = clipped_policy_loss(
        inputs["new_log_prob"], inputs["old_log_prob"], advantages, mask, cases["inputs"]["cliprange"]
    )
    means = [float(total) / int(mask.sum()) for total in (result.loss, result.clipped, result.approx_kl)]
    assert means == pytest.approx(cases["policy_loss"], abs=TOLERANCE)


def test_value_loss(cases: dict[str, Any], inputs: dict[str, Tensor]) -> None:
    returns = torch.tensor(cases["gae_gamma1.0_lam1.0"]["returns"])
    values, mask = inputs["values"], inputs["response_mask"]
    result = clipped_value_loss(values + 0.3, values, returns, mask, cases["inputs"]["cliprange_value"])
    means = [float(total) / int(mask.sum()) for total in (result.loss, result.clipped)]
    assert means == pytest.approx(cases["value_loss"], abs=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "estimator"),
    [("kl", k1), ("low_var_kl", k3)],
    ids=["kl", "low_var_kl"],
)
def test_kl_estimators(cases: dict[str, Any], inputs: dict[str, Tensor], name: str, estimator: Any) -> None:
    assert_equal(estimator(inputs["new_log_prob"], inputs["old_log_prob"]), cases["kl"][name])
