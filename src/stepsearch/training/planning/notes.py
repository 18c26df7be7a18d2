"""What is possible and may not be meant, and what a plan leaves out."""

from stepsearch.config import Config
from stepsearch.training.planning.quantities import EpisodeTokens

LONG_RUN_DAYS = 30


def settings_notes(config: Config, unbounded: EpisodeTokens, episodes: int) -> list[str]:
    """Return what is possible with settings, and may not be meant."""
    lines: list[str] = []
    settings, length = config.training, config.model.max_length
    if unbounded.total > length:
        rollout = config.rollout
        left = length - unbounded.prompt - rollout.max_turn_tokens
        fitting = max(left // (rollout.max_turn_tokens + rollout.max_observation_tokens), 0)
        lines.append(
            f"an episode that uses its budgets in full ends with context_full after {fitting} of "
            f"{config.reward.max_search_steps} searches: they add up to {unbounded.total} tokens, and "
            f"model.max_length is {length}"
        )
    if settings.microbatch_tokens < length:
        lines.append(
            f"training.microbatch_tokens={settings.microbatch_tokens} is less than model.max_length={length}: a longer "
            "episode is a pass of its own"
        )
    if settings.minibatch_size is not None and episodes % settings.minibatch_size:
        lines.append(
            f"training.minibatch_size={settings.minibatch_size} does not divide the {episodes} episodes of a step: "
            "minibatches are of nearly equal size instead"
        )
    if config.rollout.engine == "vllm_server":
        lines.append(
            "rollout.engine=vllm_server: what the server takes is not counted; give it a device of its own, or say by "
            "--memory-gib what it leaves"
        )
    return lines


def time_notes(hours: float | None, *, warm_start: bool) -> list[str]:
    """Return what is to be known of a run's time.

    Args:
        hours: of the run; None where its steps are not known.
        warm_start: whether the run begins with one.
    """
    lines: list[str] = []
    if hours is not None and hours > 24 * LONG_RUN_DAYS:
        lines.append(
            f"the run would take {hours / 24:,.0f} days: take a faster --device or more --devices, fewer "
            "training.max_steps, or a smaller model.name"
        )
    if warm_start:
        lines.append("the warm start of the tiny policy is not counted")
    return lines
