"""A token weighs the same whatever micro-batch it falls in, and whatever stands beside it as padding."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.optim import SGD
from transformers import Qwen2Config, Qwen2ForCausalLM

from stepsearch.config import TrainingSettings
from stepsearch.models import ModelTokenizer, StepSearchModel, ValueModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer
from stepsearch.training.batch import EpisodeBatch, PPOBatch, collate
from stepsearch.training.networks import Learner, Networks
from stepsearch.training.ppo_update import PPOUpdate
from stepsearch.training.reading import read_batch
from stepsearch.types import Question, StopReason, Trajectory

TOLERANCE = 1e-5
UNCLIPPED = 1e9


def trajectory(prompt: int, mask: Sequence[int]) -> Trajectory:
    return Trajectory(
        question=Question("q", "?", ("x",)),
        prompt_ids=tuple(range(20, 20 + prompt)),
        response_ids=tuple(range(40, 40 + len(mask))),
        response_mask=tuple(mask),
        rollout_logprobs=(0.0,) * len(mask),
        steps=(),
        answer=None,
        format_error=None,
        stop_reason=StopReason.ANSWERED,
    )


EPISODES = st.lists(
    st.builds(
        trajectory, st.integers(1, 6), st.lists(st.integers(0, 1), min_size=1, max_size=12).map(lambda m: [1, *m])
    ),
    min_size=1,
    max_size=6,
)


def build_policy() -> StepSearchModel:
    torch.manual_seed(0)
    tokenizer = ModelTokenizer(build_tiny_tokenizer(), "question")
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.2,
    )
    return StepSearchModel(Qwen2ForCausalLM(config), tokenizer)


def ppo_batch(episodes: EpisodeBatch) -> PPOBatch:
    """Return a batch with numbers that depend on the token alone, so that padding cannot move them."""
    wave = torch.sin(episodes.input_ids.float() + torch.arange(len(episodes))[:, None]) * episodes.response_mask
    fields: dict[str, Any] = episodes.tensors()
    return PPOBatch(
        **fields,
        token_level_rewards=wave,
        old_logprobs=-5.0 + wave,
        ref_logprobs=-5.0 - wave,
        old_values=wave / 2,
        advantages=wave,
        returns=-wave,
    )


def gradient(batch: PPOBatch, microbatch_tokens: int, **changes: Any) -> torch.Tensor:
    """Return what one optimiser step moves, as one vector: SGD at a rate of 1 moves weights by the gradient."""
    policy = build_policy()
    critic = ValueModel.from_causal_lm(policy.causal_lm, seed=0)
    torch.nn.init.constant_(critic.head.output.weight, 0.3)
    learners = [
        Learner(list(module.parameters()), SGD(module.parameters(), lr=1.0), 1.0, 0.0)
        for module in (policy.causal_lm, critic)
    ]
    before = torch.cat([x.detach().flatten().clone() for learner in learners for x in learner.parameters])
    options = {
        "clip_range": UNCLIPPED,
        "value_clip_range": UNCLIPPED,
        "max_grad_norm": UNCLIPPED,
        "kl_mode": "loss",
        "kl_coef": 0.1,
        "entropy_coef": 0.01,
        "microbatch_tokens": microbatch_tokens,
    }
    training = TrainingSettings.model_validate({**options, **changes})
    networks = Networks(policy, critic, *learners)
    rule = PPOUpdate(networks, Accelerator(cpu=True), training, temperature=1.0, seed=0, workers=training.workers)
    rule.run(batch, step=0, total_steps=1)
    return torch.cat([x.detach().flatten() for learner in learners for x in learner.parameters]) - before


def assert_close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((ours - expected).norm() / expected.norm()) < TOLERANCE


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(EPISODES, st.integers(1, 80))
def test_gradients_do_not_depend_on_the_microbatch_split(episodes: list[Trajectory], tokens: int) -> None:
    batch = ppo_batch(collate(episodes, [[0.0] * len(t.response_ids) for t in episodes], pad_id=0))
    assert_close(gradient(batch, tokens), gradient(batch, 10_000))


@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(EPISODES, st.integers(1, 9), st.integers(0, 50))
def test_gradients_do_not_depend_on_padding(episodes: list[Trajectory], padding: int, pad_id: int) -> None:
    batch = ppo_batch(collate(episodes, [[0.0] * len(t.response_ids) for t in episodes], pad_id=0))
    wider: dict[str, Any] = {
        name: torch.nn.functional.pad(x, (0, padding), value=pad_id if name == "input_ids" else 0)
        for name, x in batch.tensors().items()
        if x is not None
    }
    policy = build_policy()
    narrow, wide = (policy(b.input_ids, b.response_mask).logprobs for b in (batch, PPOBatch(**wider)))
    torch.testing.assert_close(wide[:, : narrow.shape[1]], narrow, rtol=0, atol=1e-5)
    # The update cuts rows to their length, so padding has to be real there: an episode as long as the padded batch.
    long = trajectory(1, [1] * (batch.input_ids.shape[1] + padding))
    together = [*episodes, long]
    whole = ppo_batch(collate(together, [[0.0] * len(t.response_ids) for t in together], pad_id=pad_id))
    assert_close(gradient(whole, 10_000), gradient(whole, 1))


def test_gradients_do_not_depend_on_the_workers() -> None:
    episodes = [trajectory(2, [1, 1, 0, 1]), trajectory(5, [1]), trajectory(1, [1, 0, 0, 0, 1, 1, 1])]
    batch = ppo_batch(collate(episodes, [[0.0] * len(t.response_ids) for t in episodes], pad_id=0))
    assert torch.equal(gradient(batch, 10_000, workers=2), gradient(batch, 10_000, workers=1))


def test_readings_do_not_depend_on_the_microbatch_split() -> None:
    episodes = [trajectory(2, [1, 1, 0, 1]), trajectory(5, [1]), trajectory(1, [1, 0, 0, 0, 1, 1, 1])]
    batch = collate(episodes, [[0.0] * len(t.response_ids) for t in episodes], pad_id=0)
    policy = build_policy()
    critic = ValueModel.from_causal_lm(policy.causal_lm, seed=0)
    torch.nn.init.constant_(critic.head.output.weight, 0.3)
    alone, together = (
        read_batch(batch, policy, policy, critic, temperature=0.8, token_budget=budget) for budget in (1, 1000)
    )
    for name in ("old_logprobs", "entropy", "ref_logprobs", "old_values"):
        ours = getattr(alone, name)
        torch.testing.assert_close(ours, getattr(together, name), rtol=0, atol=1e-5)
        assert not ours[batch.response_mask == 0].any()
        assert ours[batch.response_mask == 1].all()
    torch.testing.assert_close(alone.ref_logprobs, alone.old_logprobs)


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_a_zero_step_reward_is_still_a_step(reward: float) -> None:
    # The search's last token (position 3) carries the step reward: it is sampled, counted, learned from and valued.
    episode = trajectory(2, [1, 1, 0, 0, 1])
    batch = collate([episode], [[0.0, reward, 0.0, 0.0, 0.5]], pad_id=0)
    assert batch.response_mask.tolist() == [[0, 0, 1, 1, 0, 0, 1]]
    assert batch.token_level_scores[0, 3] == reward
    assert batch.response_mask.sum() == 3
