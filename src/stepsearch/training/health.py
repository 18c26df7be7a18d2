"""Signs that a run goes wrong: what ends it, and what is only said aloud. Every threshold to set is off by default."""

from collections.abc import Mapping

from stepsearch.config import ImitationSettings, TrainingSettings

# In full precision engine and trainer agree to about 1e-6.
LOGPROB_GAP = 1e-3


def collapse(
    metrics: Mapping[str, float], settings: TrainingSettings | ImitationSettings, section: str = "training"
) -> str | None:
    """Return why a run is to end early: the policy is too far from the reference, or all but deterministic.

    Args:
        metrics: of a step.
        settings: the thresholds.
        section: where they are set.
    """
    kl, entropy = metrics.get("policy/kl_to_reference"), metrics.get("policy/entropy")
    if settings.stop_kl is not None and kl is not None and kl > settings.stop_kl:
        return f"the KL to the reference is {kl:.3g}, above {section}.stop_kl={settings.stop_kl:g}"
    if settings.stop_entropy is not None and entropy is not None and entropy < settings.stop_entropy:
        return f"the entropy is {entropy:.3g}, below {section}.stop_entropy={settings.stop_entropy:g}"
    return None


def alarms(metrics: Mapping[str, float], settings: TrainingSettings) -> list[str]:
    """Return what has fallen off, searches per question or the format rate, and whether engine and trainer disagree."""
    watched = {
        "rollout/searches_per_question": ("training.alarm_searches", settings.alarm_searches),
        "rollout/format_rate": ("training.alarm_format_rate", settings.alarm_format_rate),
    }
    gap = metrics.get("rollout/logprob_gap", 0.0)
    apart = [f"rollout/logprob_gap is {gap:.3g}: the engine samples from another distribution than the one trained"]
    return (apart if settings.mixed_precision == "no" and gap > LOGPROB_GAP else []) + [
        f"{key} is {metrics[key]:.3g}, below {name}={threshold:g}"
        for key, (name, threshold) in watched.items()
        if threshold is not None and metrics[key] < threshold
    ]
