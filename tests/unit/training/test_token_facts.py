import torch

from stepsearch.training.batch import PPOBatch, collate
from stepsearch.training.token_facts import token_facts


def batch_of(trajectories: list, *, critic: bool = True) -> PPOBatch:
    """Return a batch whose numbers tell the position: rewards are 10 + t, values 20 + t, advantages 30 + t."""
    episodes = collate(trajectories, [[0.0] * len(t.response_ids) for t in trajectories], pad_id=0)
    positions = torch.arange(episodes.input_ids.shape[1], dtype=torch.float32).expand(episodes.input_ids.shape)
    return PPOBatch(
        **episodes.tensors(),
        token_level_rewards=10 + positions,
        old_logprobs=positions,
        ref_logprobs=None,
        old_values=20 + positions if critic else None,
        advantages=30 + positions,
        returns=positions if critic else None,
    )


def test_facts_stand_beside_their_response_token(make_trajectory) -> None:
    trajectory = make_trajectory()
    pieces = [f"<{index}>" for index in range(12)]
    (facts,) = token_facts(batch_of([trajectory, make_trajectory((1,) * 6)]), [trajectory], pieces)
    # Two prompt tokens come first; the response is 10, 11, 12, 13, and ids from 12 on are no tokenizer's.
    assert facts.texts == ["<10>", "<11>", "", ""]
    assert facts.token_level_rewards == [12.0, 13.0, 14.0, 15.0]
    assert facts.values == [22.0, 23.0, None, 25.0]
    assert facts.advantages == [32.0, 33.0, None, 35.0]


def test_without_a_critic_there_are_no_values(make_trajectory) -> None:
    trajectory = make_trajectory()
    (facts,) = token_facts(batch_of([trajectory], critic=False), [trajectory], [])
    assert facts.values is None
