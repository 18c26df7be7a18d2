"""From the rewards of an episode to one score per token."""

from stepsearch.types import Trajectory, TrajectoryReward


def token_level_scores(trajectory: Trajectory, reward: TrajectoryReward) -> list[float]:
    """Return the score of each response token (length R): 0 but where a reward is placed.

    The outcome stands on the last sampled token of the episode, a step's reward on the last sampled token of its
    search. Rewards that fall on one token add. Without a sampled token there is nothing to reward: all zeros.
    """
    scores = [0.0] * len(trajectory.response_ids)
    if 1 not in trajectory.response_mask:
        return scores
    last_sampled = len(scores) - 1 - trajectory.response_mask[::-1].index(1)
    scores[last_sampled] += reward.outcome
    if reward.steps is not None:
        for step, step_reward in zip(trajectory.steps, reward.steps, strict=True):
            scores[step.end_position] += step_reward.total
    return scores
