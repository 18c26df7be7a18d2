"""Everything that a report shows, gathered from files."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stepsearch.config import RewardSettings
from stepsearch.errors import DataError
from stepsearch.evaluation.metrics import EpisodeScore, score_answer
from stepsearch.evaluation.result_files import SUMMARY, PredictionsFile, find_predictions
from stepsearch.evaluation.viewer.episodes import EpisodeStore, Facts, key_gains
from stepsearch.evaluation.viewer.figures import distributions, figures_of_episodes, figures_of_summary
from stepsearch.evaluation.viewer.reading import (
    prediction_of,
    read_lines,
    read_summary,
    read_training_logs,
    reward_settings,
)
from stepsearch.rewards.reward_calculator import StepSearchRewardCalculator
from stepsearch.types import StepReward, TrajectoryReward

EPISODES_PER_PIECE = 50
MAX_POINTS = 400
# What a line of predictions has besides these is shown as it is.
_KNOWN = frozenset({"id", "question", "answers", "prediction", "em", "f1", "trajectory"})
_EVERYWHERE = frozenset({"best_model", "checkpoints", "results", "/"})

OnEpisode = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Source:
    """Who played some of the episodes.

    Attributes:
        name: for people.
        run: of `this`, `beside` and `training`.
        method: empty for the evaluated model itself.
    """

    name: str
    run: str
    method: str = ""


@dataclass(slots=True)
class ReportData:
    """What has been gathered so far."""

    store: EpisodeStore = field(default_factory=EpisodeStore)
    sources: list[Source] = field(default_factory=lambda: list[Source]())
    columns: list[dict[str, Any]] = field(default_factory=lambda: list[dict[str, Any]]())
    runs: list[dict[str, Any]] = field(default_factory=lambda: list[dict[str, Any]]())
    metrics: dict[str, Any] | None = None

    def add_results(self, folder: Path, run: str, per_file: int, on_episode: OnEpisode) -> None:
        """Add the predictions of a results folder, with the figures of each dataset and method.

        Args:
            folder: the results.
            run: `this` or `beside`.
            per_file: of each file so many trajectories can be read; figures are over all.
            on_episode: told of every line.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        summary = read_summary(folder)
        settings = reward_settings(summary, folder)
        described = _run(folder, run, summary, settings)
        if described["name"] in self.run_names():
            described["name"] += " (beside)"
        self.runs.append(described)
        numbers: dict[str, int] = {}
        for file in find_predictions(folder):
            if file.method not in numbers:
                numbers[file.method] = len(self.sources)
                self.sources.append(Source(file.method or described["name"], run, file.method))
            calculator = StepSearchRewardCalculator(settings)
            scores = self._add_file(file, numbers[file.method], calculator, per_file, on_episode)
            if scores:
                entry = _entry(summary, file.dataset, file.method)
                figures = _figures(entry, scores, folder / SUMMARY, file.dataset)
                place = {"source": numbers[file.method], "dataset": self.store.datasets(file.dataset)}
                self.columns.append({**place, "errors": sum(not score.played for score in scores), **figures})

    def _add_file(
        self,
        file: PredictionsFile,
        source: int,
        calculator: StepSearchRewardCalculator,
        per_file: int,
        on_episode: OnEpisode,
    ) -> list[EpisodeScore]:
        """Return the scores of all episodes of a file, and keep the first ones for reading."""
        scores: list[EpisodeScore] = []
        for where, record in read_lines(file.path):
            on_episode(1)
            prediction = prediction_of(record, where)
            trajectory, score = prediction.trajectory, prediction.score
            if len(scores) < per_file:
                reward = calculator.score(trajectory)
                more = {key: value for key, value in record.items() if key not in _KNOWN and value is not None}
                facts = Facts(score.em, score.f1, reward, more=more)
                self.store.add(source, file.dataset, trajectory, facts, key_gains(calculator, trajectory, reward))
            scores.append(score)
        return scores

    def add_training(self, folder: Path, settings: RewardSettings, on_episode: OnEpisode) -> None:
        """Add the curves and the logged episodes of a training run.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        calculator = StepSearchRewardCalculator(settings)
        steps, episodes = read_training_logs(folder)
        self.metrics = curves(steps)
        if episodes:
            self.sources.append(Source("training", "training"))
        for where, record in episodes:
            trajectory = prediction_of(record, where).trajectory
            em, f1 = score_answer(trajectory.question, trajectory.answer)
            try:
                facts = Facts(em, f1, _logged_reward(record["reward"]), int(record["step"]), record.get("tokens"))
                self.store.add(
                    len(self.sources) - 1,
                    trajectory.question.dataset or "training",
                    trajectory,
                    facts,
                    key_gains(calculator, trajectory, calculator.score(trajectory)),
                )
            except (KeyError, TypeError, ValueError, IndexError):
                raise DataError(f"{where}: `reward`, `step` or `tokens` is not whole; train again") from None
            on_episode(1)

    def run_names(self) -> list[str]:
        """Return the runs' names for people."""
        return [run["name"] for run in self.runs]

    def elements(self, title: str) -> dict[str, Any]:
        """Return the data elements of the page by name; of what is not needed at once there are several pieces."""
        store = self.store
        starts = range(0, len(store.details), EPISODES_PER_PIECE)
        index = {
            "title": title,
            "runs": self.runs,
            "sources": [asdict(source) for source in self.sources],
            "datasets": store.datasets.keys(),
            "stops": store.stop_reasons.keys(),
            "columns": _finite(self.columns),
            "rows": store.rows,
            "piece": EPISODES_PER_PIECE,
        }
        return {
            "index": index,
            "questions": store.questions,
            "documents": store.documents.keys(),
            "metrics": self.metrics,
            **{f"episodes-{at}": _finite(store.details[at : at + EPISODES_PER_PIECE]) for at in starts},
        }


def _figures(
    entry: Mapping[str, Any] | None, scores: Sequence[EpisodeScore], summary: Path, dataset: str
) -> dict[str, Any]:
    """Return the figures of the summary's entry; without one they are computed from the episodes."""
    try:
        figures = figures_of_episodes(scores) if entry is None else figures_of_summary(entry)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DataError(f"{summary}: the figures of {dataset} cannot be read: evaluate again") from None
    return {**figures, **distributions(scores), "count": len(scores)}


def curves(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the metrics of a training run as columns, null where a step has none; of a long run some steps only."""
    numbered = [step for step in steps if isinstance(step.get("step"), int)]
    if not numbered:
        return None
    stride = math.ceil(len(numbered) / MAX_POINTS)
    # Rare metrics, such as those of the dev evaluation, are kept wherever they are.
    rare = {key for key in numbered[-1] if key.startswith("eval/")}
    kept = [step for at, step in enumerate(numbered) if at % stride == 0 or not rare.isdisjoint(step)]
    keys = sorted({key for step in kept for key in step} - {"step"})
    return {
        "steps": [step["step"] for step in kept],
        "curves": {key: [_number(step.get(key)) for step in kept] for key in keys},
    }


def _number(value: Any) -> float | None:
    return float(f"{value:.5g}") if isinstance(value, int | float) and math.isfinite(value) else None


def _run(folder: Path, run: str, summary: Mapping[str, Any] | None, settings: RewardSettings) -> dict[str, Any]:
    described = summary or {}
    model = str(described.get("model") or "")
    return {
        "run": run,
        "name": _speaking_name(Path(model) if model else folder.resolve()),
        "folder": str(folder),
        "model": model,
        "corpus": described.get("corpus"),
        "seed": described.get("seed"),
        "has_summary": summary is not None,
        "reward": settings.model_dump(mode="json"),
    }


def _speaking_name(path: Path) -> str:
    """Return the last part of a path that is not the same in every run."""
    return next((part for part in reversed(path.parts) if part not in _EVERYWHERE), path.name)


def _entry(summary: Mapping[str, Any] | None, dataset: str, method: str) -> Mapping[str, Any] | None:
    """Return what a summary has of a dataset and method; None where it has nothing."""
    entry = (summary or {}).get("datasets", {}).get(dataset)
    if entry is None or not method:
        return entry
    return (entry.get("methods") or {}).get(method)


def _logged_reward(record: Mapping[str, Any]) -> TrajectoryReward:
    steps = record["steps"]
    return TrajectoryReward(
        outcome=record["outcome"],
        answer=record["answer"],
        search_key=record["search_key"],
        steps=None if steps is None else tuple(StepReward(**step) for step in steps),
        golden_recall=record.get("golden_recall"),
    )


def _finite(value: Any) -> Any:
    """Return JSON values with None for what is no finite number, which JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
