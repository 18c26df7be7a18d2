"""Which weights an engine samples from, and in which precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from stepsearch.config import load_config
from stepsearch.models import ModelTokenizer, StepSearchModel, engines
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer

PolicyOf = Callable[[torch.dtype], StepSearchModel]
TOKENIZER = ModelTokenizer(build_tiny_tokenizer(), "question")


@pytest.fixture
def policy_of(random_policy: Callable[..., Any]) -> PolicyOf:
    """Builds a random policy whose weights have that type."""
    return lambda dtype: StepSearchModel(random_policy(len(TOKENIZER)).to(dtype), TOKENIZER)


@pytest.mark.parametrize(
    ("dtype", "learns", "is_copied"),
    [
        (torch.float32, True, True),
        (torch.float32, False, True),
        (torch.bfloat16, True, True),
        (torch.bfloat16, False, False),
    ],
)
def test_a_copy_is_made_where_weights_are_not_what_is_sampled_fast(
    policy_of: PolicyOf, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, learns: bool, is_copied: bool
) -> None:
    """As on an accelerator, where mixed precision samples from a copy."""
    monkeypatch.setattr(engines, "wants_copy", lambda device, config: True)
    config = load_config(None, ["training.mixed_precision=bf16", "model.max_length=64", "rollout.slots=2"])
    policy = policy_of(dtype)
    built = engines.build_engines(policy, config, learns)
    (engine,) = built.engines
    assert (engine._causal_lm is not policy.causal_lm) == (built.sync is not None) == is_copied
    assert engine._causal_lm.dtype == torch.bfloat16


@pytest.mark.parametrize("learns", [True, False])
def test_on_a_cpu_the_policy_itself_is_sampled(policy_of: PolicyOf, learns: bool) -> None:
    config = load_config(None, ["training.mixed_precision=bf16", "model.max_length=64", "rollout.slots=2"])
    policy = policy_of(torch.float32)
    built = engines.build_engines(policy, config, learns)
    assert built.engines[0]._causal_lm is policy.causal_lm
    assert built.sync is None


@pytest.mark.parametrize(("precision", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_an_engine_with_weights_of_its_own_is_told_the_precision(
    policy_of: PolicyOf, precision: str, dtype: torch.dtype
) -> None:
    config = load_config(None, [f"training.mixed_precision={precision}"])
    for learns in (True, False):
        assert engines._copied(policy_of(torch.float32), config, learns)["dtype"] == dtype
