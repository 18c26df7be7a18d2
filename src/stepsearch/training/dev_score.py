"""What an evaluation during training says: by which score a model is the best, and under which keys it is logged."""

from collections.abc import Mapping


def dev_score(measured: Mapping[str, float]) -> tuple[float, float]:
    """Return mean EM and mean F1 over the datasets; the greater pair is the better model's."""
    return _mean_of(measured, "em"), _mean_of(measured, "f1")


def under_eval(measured: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics with keys that begin with `eval/`."""
    return {key if key.startswith("eval/") else f"eval/{key}": value for key, value in measured.items()}


def _mean_of(measured: Mapping[str, float], name: str) -> float:
    """Return the mean of the metrics whose key is `name` or ends in it; 0 without any."""
    values = [value for key, value in measured.items() if key.rpartition("/")[2] == name]
    return sum(values) / len(values) if values else 0.0
