"""Where the time of a StePPO step goes, on the embedded default (config/tiny.yaml).

    OMP_NUM_THREADS=1 python benchmarks/step_breakdown.py

A real `StePPOTrainer` takes steps on the generated world, with the settings of config/tiny.yaml but for the value
warm-up, which is left out. The policy is warm-started for as long as it takes to search in the right format, or is the
one in --model. Every part is a share of the step's processor time; what runs beside the main thread counts where it
belongs. "search" is the engine's thread and the guard around it; how long the rollout stood still for it is told apart.
"""

import argparse
import tempfile
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import transformers

from shared.ledger import Ledger, spread
from stepsearch.cli.assembly import build_policy
from stepsearch.cli.players import Player
from stepsearch.config import Config, load_config
from stepsearch.data import read_questions
from stepsearch.data.synthetic import write_world
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.preparation.pipeline import KNOWLEDGE_BASE, PROCESSED_TRAIN, prepare
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.rollout import runner
from stepsearch.search import SearchEngine, build_search_engine
from stepsearch.search.guarded_search import guard
from stepsearch.training.metric_log import MetricLog
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.steppo_trainer import StePPOTrainer
from stepsearch.types import Question

CONFIG = Path(__file__).parents[1] / "config" / "tiny.yaml"
CURRICULUM = (
    "warm_start.phases=[{kind: reading, updates: 40, tokens: 2048}, "
    "{kind: demonstrations, updates: 100, tokens: 3072, stop_early: [0.2, 0.6, 0.6], repeat_query: 0.2}]"
)


class WatchedExecutor(ThreadPoolExecutor):
    """Notes how long its results are waited for."""

    ledger = Ledger()

    def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
        """Run something in the worker."""
        future = super().submit(*arguments, **named)
        self.ledger.watch("waiting", future, "result")
        return future


@dataclass(frozen=True)
class Step:
    """Processor and wall seconds by part, and what the trainer logged."""

    cpu: dict[str, float]
    wall: dict[str, float]
    metrics: dict[str, float]


def settings() -> Config:
    """Return the tiny default in one thread, without value warm-up, and with a short warm start."""
    overrides = ["training.workers=1", "training.value_warmup_steps=0", CURRICULUM, "world.train_questions=1200"]
    return load_config(CONFIG, overrides)


def make_world(config: Config, folder: Path) -> tuple[list[Question], SearchEngine]:
    """Return the generated questions and a search over their world."""
    write_world(folder / "raw", config.world, config.seed)
    prepare(folder / "raw", folder / "data", build_knowledge_base=True, report=lambda line: None)
    found = config.search.model_copy(update={"knowledge_base": str(folder / "data" / KNOWLEDGE_BASE)})
    return read_questions(folder / "data" / PROCESSED_TRAIN), build_search_engine(found)


def build_trainer(config: Config, folder: Path, model: Path | None, ledger: Ledger) -> StePPOTrainer:
    """Return a trainer all of whose parts are noted."""
    questions, engine = make_world(config, folder)
    policy = build_policy(config, questions, engine) if model is None else StepSearchModel.load(model)
    search, rewards = guard(engine, config.search), StepSearchRewardCalculator(config.reward)
    player = Player(policy, search, config)
    episodes = player.runner(config.rollout.temperature)
    trainer = StePPOTrainer(policy, episodes, search, rewards, questions, config, RunFolder.at(folder / "run"))
    ledger.watch("rollout", episodes, "run")
    ledger.watch("generation", player.engines[0], "step", own_thread=True)
    # The guard works in the rollout's worker thread, and lets the engine answer in one of its own.
    ledger.watch("search", search, "search_batch", own_thread=True)
    ledger.watch("search", engine, "search_batch", own_thread=True)
    ledger.watch("reward", rewards, "score_batch")
    for part in ("_place", "_read", "_update"):
        ledger.watch(part, trainer, part)
    return trainer


def parts_of(cpu: Mapping[str, float]) -> dict[str, float]:
    """Return the processor seconds of a step's parts, which add up to those of the step."""
    parts = {
        "generation": cpu["generation"],
        "search": cpu["search"],
        "turns, observations": cpu["rollout"] - cpu["generation"] - cpu["search"],
        "reward": cpu["reward"],
        "tensors of the episodes": cpu["_place"],
        "old, reference, values": cpu["_read"],
        "update": cpu["_update"],
    }
    return {**parts, "advantages, metrics, log": cpu["step"] - sum(parts.values())}


def main() -> None:
    """Print each part's share of a step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a tiny policy that has learned; default: a short warm start")
    parser.add_argument("--steps", type=int, default=5, help="measured steps, after one that warms up")
    options = parser.parse_args()
    config, ledger = settings(), WatchedExecutor.ledger
    torch.set_num_threads(1)
    steps: list[Step] = []
    with tempfile.TemporaryDirectory() as folder, patch.object(runner, "ThreadPoolExecutor", WatchedExecutor):
        trainer = build_trainer(config, Path(folder), options.model, ledger)
        with MetricLog(Path(folder) / "logs", step=0, tensorboard=config.logging.tensorboard) as log:
            for _ in range(options.steps + 1):
                ledger.clear()
                with ledger.noting("step"):
                    metrics = trainer.train_step(log)
                steps.append(Step(dict(ledger.cpu), dict(ledger.wall), metrics))
    show(steps[1:])


def show(steps: list[Step]) -> None:
    """Print medians over steps, and the spread of the shares."""
    metrics = steps[-1].metrics
    print(
        f"{len(steps)} steps; seconds of processor time {spread([step.cpu['step'] for step in steps])}, wall "
        f"{spread([step.wall['step'] for step in steps])}; {metrics['rollout/searches_per_question']:.1f} searches per "
        f"question, format rate {metrics['rollout/format_rate']:.2f}; torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
    print("part                      CPU s   % of the step: min / median / max")
    parts = [parts_of(step.cpu) for step in steps]
    for part in parts[0]:
        print(f"{part:25s} {median(p[part] for p in parts):6.3f}   {spread(shares(steps, [p[part] for p in parts]))}")
    both = [part["search"] + part["reward"] for part in parts]
    print(f"{'search + reward':25s} {median(both):6.3f}   {spread(shares(steps, both))}")
    waits = [100 * step.wall["waiting"] / step.wall["step"] for step in steps]
    print(f"the rollout stood still for the search: {spread(waits)} % of wall time")


def shares(steps: list[Step], seconds: list[float]) -> list[float]:
    """Return per cent of each step's processor time."""
    return [100 * part / step.cpu["step"] for part, step in zip(seconds, steps, strict=True)]


if __name__ == "__main__":
    main()
