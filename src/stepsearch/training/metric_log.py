"""What a run writes while it goes on.

logs/train.log            lines for people
logs/metrics.jsonl        one line per step, every metric; where there is a dev evaluation, step 0 has that of the start
logs/trajectories.jsonl   now and then a few whole episodes with their rewards, and what was known of each token
logs/tensorboard/         the same metrics as curves
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from torch.utils.tensorboard.writer import SummaryWriter

from stepsearch.errors import StepSearchError, TrainingError
from stepsearch.training.token_facts import TokenFacts
from stepsearch.types import Trajectory, TrajectoryReward

logger = logging.getLogger("stepsearch.training")

METRICS, TRAJECTORIES, TEXT, CURVES = "metrics.jsonl", "trajectories.jsonl", "train.log", "tensorboard"
# What a line for people shows, in this order.
HEADLINE = {
    "reward/total": "reward",
    "reward/answer": "answer",
    "rollout/searches_per_question": "searches",
    "rollout/golden_recall": "recall",
    "rollout/format_rate": "format",
    "policy/kl_to_reference": "kl",
    "policy/entropy": "entropy",
    "value/explained_variance": "explained",
}


class MetricLog:
    """Writes a run's logs; a resumed run's go on where its checkpoint was.

    Args:
        folder: where they stand.
        step: whole steps taken so far; what older lines say about later steps is dropped.
        tensorboard: write curves too.

    Raises:
        TrainingError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, *, step: int, tensorboard: bool) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in (METRICS, TRAJECTORIES):
                # A run that begins anew writes its own line of step 0.
                keep_lines_up_to(folder / name, step or -1)
            if not step:
                for old in (folder / CURVES).glob("events.out.tfevents.*"):
                    old.unlink()
            self._handler = logging.FileHandler(folder / TEXT, mode="a" if step else "w", encoding="utf-8")
        except OSError as error:
            raise TrainingError(f"logs cannot be written to {folder}: {error.strerror or error}") from None
        self._folder = folder
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._root = logging.getLogger("stepsearch")
        self._root.addHandler(self._handler)
        if self._root.getEffectiveLevel() > logging.INFO:
            self._root.setLevel(logging.INFO)
        self._curves = SummaryWriter(str(folder / CURVES), purge_step=step + 1) if tensorboard else None

    def write(self, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a whole step, counted from 1; 0 is the policy that training starts from."""
        self._append(METRICS, [{"step": step, **metrics}])
        logger.info("%s", headline(step, total_steps, metrics))
        if self._curves is not None:
            for key, value in metrics.items():
                self._curves.add_scalar(key, value, step)
            self._curves.flush()

    def write_trajectories(
        self,
        step: int,
        trajectories: Sequence[Trajectory],
        rewards: Sequence[TrajectoryReward],
        facts: Sequence[TokenFacts],
    ) -> None:
        """Write whole episodes with every part of their rewards, and what the update knew of each token."""
        self._append(
            TRAJECTORIES,
            [
                {
                    "step": step,
                    "reward": {**asdict(reward), "total": reward.total},
                    "trajectory": trajectory.to_json(),
                    "tokens": asdict(tokens),
                }
                for trajectory, reward, tokens in zip(trajectories, rewards, facts, strict=True)
            ],
        )

    def say(self, text: str) -> None:
        """Write a line for people."""
        logger.info("%s", text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, StepSearchError):
            logger.error("%s", error)
        self.close()

    def warn(self, text: str) -> None:
        """Write a warning for people."""
        logger.warning("%s", text)

    def close(self) -> None:
        """Close the files. Safe to call twice."""
        self._root.removeHandler(self._handler)
        self._handler.close()
        if self._curves is not None:
            self._curves.close()

    def _append(self, name: str, records: Sequence[Mapping[str, Any]]) -> None:
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        with (self._folder / name).open("a", encoding="utf-8") as file:
            file.write(lines)


class UnwrittenLog(MetricLog):
    """The log of a process that leaves the writing to another one."""

    def __init__(self) -> None:
        """Open nothing."""

    def write(self, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        """Write nothing."""

    def write_trajectories(
        self,
        step: int,
        trajectories: Sequence[Trajectory],
        rewards: Sequence[TrajectoryReward],
        facts: Sequence[TokenFacts],
    ) -> None:
        """Write nothing."""

    def say(self, text: str) -> None:
        """Write nothing."""

    def warn(self, text: str) -> None:
        """Write nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Close nothing."""

    def close(self) -> None:
        """Close nothing."""


def headline(step: int, total_steps: int, metrics: Mapping[str, float]) -> str:
    """Return one line for people: the step, what matters most, evaluations, and the seconds it took."""
    parts = [f"{name} {metrics[key]:.3f}" for key, name in HEADLINE.items() if key in metrics]
    parts += [
        f"{key} {value:.3f}" for key, value in metrics.items() if key.startswith("eval/") and key.endswith(("em", "f1"))
    ]
    # The searches' seconds are a part of the rollout's.
    seconds = sum(value for key, value in metrics.items() if key.startswith("time/") and key != "time/search")
    return f"step {step}/{total_steps}  {'  '.join(parts)}  {seconds:.1f} s"


def keep_lines_up_to(path: Path, step: int) -> None:
    """Drop the lines of a JSONL file that are about later steps, or that a kill has cut short."""
    if not path.exists():
        return
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as kept:
        kept.writelines(_lines_up_to(path, step))
    os.replace(temporary, path)


def _lines_up_to(path: Path, step: int) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                if json.loads(line)["step"] <= step:
                    yield line
            except (ValueError, KeyError, TypeError):
                logger.warning("%s: a damaged line is dropped", path)
