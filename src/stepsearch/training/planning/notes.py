"""What is possible and may not be meant, and what a plan leaves out."""

from importlib.util import find_spec

from stepsearch.config import IN_PROCESS, Config
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


def time_notes(config: Config, hours: float | None, *, measured: bool, warm_start: bool) -> list[str]:
    """Return what is to be known of a run's time.

    Args:
        config: the run's settings.
        hours: of the run; None where its steps are not known.
        measured: whether the time is a trial's.
        warm_start: whether the run begins with one.
    """
    lines: list[str] = []
    engine = config.rollout.engine
    if engine != IN_PROCESS and not measured:
        lines.append(f"rollout.engine={engine}: its rollout's time is the same arithmetic as that of {IN_PROCESS}")
    if hours is not None and hours > 24 * LONG_RUN_DAYS:
        lines.append(
            f"the run would take {hours / 24:,.0f} days: take a faster --device or more --devices, fewer "
            "training.max_steps, or a smaller model.name"
        )
    if warm_start:
        lines.append("the warm start of the tiny policy is not counted")
    return lines


def missing_notes(config: Config) -> list[str]:
    """Return what a run needs and is not installed here, where it may not be meant to run."""
    lines: list[str] = []
    if config.rollout.engine == "vllm" and find_spec("vllm") is None:
        lines.append("rollout.engine=vllm: vLLM is not installed here (docs/engines.md says which version is needed)")
    if config.lora.rank and find_spec("peft") is None:
        lines.append(f'lora.rank={config.lora.rank}: peft is not installed here (pip install "stepsearch[lora]")')
    return lines
