"""StePPO: play episodes, reward every search step, and update policy and critic (docs/algorithm.md)."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from stepsearch.config import Config
from stepsearch.errors import TrainingError
from stepsearch.models.rollout_copy import wants_copy
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.trunk import usable_workers
from stepsearch.rewards.placement import token_level_scores
from stepsearch.rewards.reward_calculator import STOP_WORDS, StepSearchRewardCalculator
from stepsearch.rollout import EpisodeRunner, episode_seed
from stepsearch.search.guarded_search import GuardedSearch, joint_statistics
from stepsearch.training.batch import EpisodeBatch, PPOBatch, collate, save_failed_batch
from stepsearch.training.credit import assign_credit
from stepsearch.training.dev_score import dev_score, under_eval
from stepsearch.training.health import alarms, collapse
from stepsearch.training.interruption import noting_interruption
from stepsearch.training.metric_log import MetricLog, UnwrittenLog
from stepsearch.training.metrics import (
    batch_metrics,
    coverage_metrics,
    random_gain_metrics,
    retokenisation_metrics,
    reward_metrics,
    rollout_metrics,
    search_metrics,
)
from stepsearch.training.networks import give_adapters, prepare_networks, prepare_reference, start_accelerator
from stepsearch.training.offload import is_offloaded, lent
from stepsearch.training.ppo_update import NonFiniteUpdate, PPOUpdate
from stepsearch.training.preflight import check_processes, check_prompts, check_sampling, check_weights
from stepsearch.training.processes import join_processes
from stepsearch.training.reading import Readings, read_batch, reads_policy, reads_reference
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.run_state import Progress
from stepsearch.training.saved_run import SavedRun
from stepsearch.training.schedules import question_indices, total_steps
from stepsearch.training.sharding import whole
from stepsearch.training.sharing_runner import SharingRunner
from stepsearch.training.token_facts import token_facts
from stepsearch.types import Question, Trajectory, TrajectoryReward

Evaluate = Callable[[], Mapping[str, float]]
OnStep = Callable[[int, int, Mapping[str, float]], None]
Describe = Callable[[int, int, Mapping[str, float]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """How a run ended: whole steps taken, of how many, by an interruption or a collapse, and the best dev EM and F1."""

    steps: int
    total_steps: int
    interrupted: bool
    collapse: str | None
    best: tuple[float, float] | None


class StePPOTrainer:
    """Trains a policy to search.

    Started in several processes, each plays, rewards and learns from a share of every step, in agreement with the
    others: what is computed is, but for rounding, what one process computes. The first one writes.

    Args:
        policy: learns, in place. With `training.critic=shared` it is given a value head.
        runner: plays episodes of that policy at the training temperature.
        search: what the runner searches with; its counts are logged, and its cache is kept in checkpoints.
        reward_calculator: rewards whole episodes.
        questions: what to ask.
        config: all settings.
        run_folder: where checkpoints, models and logs go.
        evaluate: returns dev metrics of the policy as it is now; those whose keys end in `em` and `f1` choose the best
            model. Called before the first step too, for the log. None: the last model is the best. Of several
            processes each calls it, and what the first one's returns counts.
        on_step: told of every whole step: how many are taken, of how many, and its metrics.
        describe: returns what a saved model is to remember besides its settings, given the whole steps taken, of how
            many, and the dev metrics that made it the best.

    Raises:
        ConfigError: the settings cannot be trained with.
    """

    def __init__(
        self,
        policy: StepSearchModel,
        runner: EpisodeRunner,
        search: GuardedSearch,
        reward_calculator: StepSearchRewardCalculator,
        questions: Sequence[Question],
        config: Config,
        run_folder: RunFolder,
        *,
        evaluate: Evaluate | None = None,
        on_step: OnStep | None = None,
        describe: Describe | None = None,
    ) -> None:
        check_sampling(config.rollout)
        check_prompts(questions, policy.tokenizer, config)
        give_adapters(policy, config)
        check_weights(policy.causal_lm)
        settings, device = config.training, policy.causal_lm.device
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        self._processes = join_processes(device.type)
        self._policy, self._runner, self._search = policy, SharingRunner(runner, self._processes), search
        self._reward_calculator, self._questions, self._config = reward_calculator, questions, config
        self._run_folder, self._evaluate, self._on_step, self._describe = run_folder, evaluate, on_step, describe
        workers = usable_workers(settings, device)
        check_processes(self._processes.count, workers, config.rollout.engine)
        # Adapters of one trunk take turns.
        self._workers = 1 if policy.adapters else workers
        self._policy_is_read = reads_policy(settings, config.rollout.engine)
        self._total_steps = total_steps(len(questions), settings.batch_size, settings.num_epochs, settings.max_steps)
        self._schedule_steps = self._total_steps
        self._step = 0
        self._best: tuple[float, float] | None = None
        self._collapse: str | None = None
        # While a critic on the policy's trunk warms up, the policy's head has nothing to learn.
        idle_weights = settings.critic == "shared" and settings.value_warmup_steps > 0
        self._accelerator = start_accelerator(settings.mixed_precision, device, with_idle_weights=idle_weights)
        # Copied before the networks are prepared, so that nothing of the preparation is in the reference.
        self._reference = prepare_reference(policy, config, self._accelerator) if reads_reference(settings) else None
        self._networks = prepare_networks(policy, config, self._accelerator)
        self._update_rule = PPOUpdate(
            self._networks,
            self._accelerator,
            settings,
            temperature=config.rollout.temperature,
            seed=config.seed,
            workers=self._workers,
            policy_is_read=self._policy_is_read,
            processes=self._processes,
        )
        self._saved = SavedRun(
            run_folder,
            config,
            questions,
            policy=policy,
            networks=self._networks,
            reference=self._reference,
            accelerator=self._accelerator,
            search=search,
        )
        self._seconds: dict[str, float] = {}

    def resume(self) -> int:
        """Go on from the last whole checkpoint of the run folder; return how many steps were taken.

        Without a checkpoint the run starts from the beginning. All weights come from the checkpoint, those of the
        reference included.

        Raises:
            ConfigError: the checkpoint was written under settings that change what is computed.
            ModelError: every checkpoint is damaged, or fits another model.
        """
        progress = self._saved.restore()
        if progress is not None:
            self._step, self._schedule_steps, self._best = progress.step, progress.schedule_steps, progress.best
        return self._step

    def train(self) -> TrainingSummary:
        """Train until the last step, or until somebody interrupts; leave a checkpoint of the last whole step.

        Raises:
            ConfigError: the run folder holds another run's checkpoints.
            TrainingError: a reward, a loss or a gradient is not finite, or another process of the run is gone.
        """
        if self._step == 0:
            self._saved.check_unused()
            self._saved.save_reference()
        with self._open_log() as log, self._processes.together():
            with noting_interruption() as interruption:
                if self._step == 0:
                    self._log_start(log)
                is_interrupted = any(self._processes.gather(interruption.requested))
                while not (self._is_over or is_interrupted):
                    metrics = self.train_step(log)
                    is_interrupted = any(self._processes.gather(interruption.requested))
                    if is_interrupted or self._is_due(self._config.logging.checkpoint_every):
                        self._save_checkpoint()
                    if self._on_step is not None:
                        self._on_step(self._step, self._total_steps, metrics)
            return self._finish(log, is_interrupted)

    def train_step(self, log: MetricLog) -> dict[str, float]:
        """Take one step of StePPO and return its metrics: collect, score, place, advantages, update, log."""
        with self._timed("rollout"):
            trajectories = self._collect()
        with self._timed("reward"):
            rewards = self._processes.share_out(trajectories, self._score)
            episodes = self._place(trajectories, rewards)
        with self._timed("reading"):
            readings = self._read(episodes)
        with self._timed("advantages"):
            batch = assign_credit(episodes, readings, self._config.training)
        with self._timed("update"):
            diagnostics = self._update(batch)
        self._step += 1
        return self._log(log, trajectories, rewards, batch, batch_metrics(batch, readings.entropy) | diagnostics)

    def _collect(self) -> list[Trajectory]:
        """Play the step's questions; which they are and their noise are functions of the seed and the step."""
        settings, seed = self._config.training, self._config.seed
        indices = question_indices(self._step, settings.batch_size, len(self._questions), seed)
        questions = [self._questions[i] for i in indices for _ in range(settings.rollouts_per_question)]
        seeds = [episode_seed(seed, self._step, index) for index in range(len(questions))]
        # What an evaluation asked since the last step is not this step's.
        self._search.take_statistics()
        with self._playing():
            return self._runner.run(questions, seeds)

    @contextmanager
    def _playing(self) -> Generator[None]:
        """The block in which the policy plays: as precise as it learns, and whole where the engine reads it itself."""
        with ExitStack() as stack:
            if not wants_copy(self._policy.causal_lm.device.type, self._config):
                stack.enter_context(whole(self._networks.policy))
            stack.enter_context(self._accelerator.autocast())
            yield

    def _score(self, trajectories: Sequence[Trajectory]) -> Sequence[TrajectoryReward]:
        """Return the rewards of this process's episodes, of which there may be none."""
        return self._reward_calculator.score_batch(trajectories) if trajectories else ()

    def _place(self, trajectories: Sequence[Trajectory], rewards: Sequence[TrajectoryReward]) -> EpisodeBatch:
        """Return the episodes as tensors, with every reward on the token that earned it."""
        scores = [token_level_scores(*pair) for pair in zip(trajectories, rewards, strict=True)]
        return collate(trajectories, scores, self._policy.tokenizer.pad_id).to(self._accelerator.device)

    def _read(self, episodes: EpisodeBatch) -> Readings:
        """Return what policy, reference and critic say before the update."""
        visitor = self._reference if is_offloaded(self._config.training, "reference") else None
        with lent(visitor, self._accelerator.device):
            return read_batch(
                episodes,
                self._networks.policy if self._policy_is_read else None,
                self._reference,
                self._networks.value_model,
                temperature=self._config.rollout.temperature,
                token_budget=self._config.training.microbatch_tokens,
                workers=self._workers,
                processes=self._processes,
            )

    def _update(self, batch: PPOBatch) -> dict[str, float]:
        """Update policy and critic.

        Raises:
            TrainingError: a loss or a gradient is not finite; its minibatch is saved and leaves the weights alone.
        """
        try:
            return self._update_rule.run(batch, self._step, self._schedule_steps)
        except NonFiniteUpdate as failure:
            folder, step = self._run_folder.root / "failed_batch", self._step + 1
            if self._processes.is_main:
                save_failed_batch(folder, step, failure.minibatch)
            raise TrainingError(
                f"step {step}: the update is not finite ({failure}); its minibatch left the weights alone and is "
                f"saved in {folder}. Lower training.learning_rate, then go on from the last checkpoint by --resume"
            ) from None

    def _log(
        self,
        log: MetricLog,
        trajectories: Sequence[Trajectory],
        rewards: Sequence[TrajectoryReward],
        batch: PPOBatch,
        diagnostics: Mapping[str, float],
    ) -> dict[str, float]:
        """Measure the step, evaluate if it is time, write everything down, and return it."""
        settings = self._config.logging
        searched = joint_statistics(self._processes.gather(self._search.take_statistics()))
        metrics = {
            **reward_metrics(rewards),
            **random_gain_metrics(trajectories, STOP_WORDS[self._config.reward.stop_words]),
            **coverage_metrics(trajectories),
            **retokenisation_metrics(trajectories, self._policy.tokenizer),
            **rollout_metrics(trajectories, self._seconds["rollout"]),
            **search_metrics(searched),
            **diagnostics,
        }
        if self._evaluate is not None and (self._is_due(self._config.evaluation.every_steps) or self._is_last):
            metrics |= self._keep_the_best(self._measure(self._evaluate))
        metrics |= {f"time/{name}": seconds for name, seconds in self._seconds.items()}
        self._seconds = {}
        log.write(self._step, self._total_steps, metrics)
        for alarm in alarms(metrics, self._config.training):
            log.warn(alarm)
        self._collapse = self._processes.gather(collapse(metrics, self._config.training))[0]
        if self._is_due(settings.trajectories_every) or self._step == 1:
            shown, pieces = slice(settings.trajectories), self._policy.tokenizer.token_pieces()
            facts = token_facts(batch, trajectories[shown], pieces)
            log.write_trajectories(self._step, trajectories[shown], rewards[shown], facts)
        return metrics

    def _log_start(self, log: MetricLog) -> None:
        """Write down how the policy does before the first step: step 0 of the curves, and no candidate for the best."""
        if self._evaluate is not None:
            metrics = under_eval(self._measure(self._evaluate))
            log.write(0, self._total_steps, metrics | {"time/evaluation": self._seconds.pop("evaluation")})

    def _measure(self, evaluate: Evaluate) -> Mapping[str, float]:
        """Return what an evaluation says in the first process, so that all of them keep the same model."""
        with self._timed("evaluation"), self._playing():
            return self._processes.gather(evaluate())[0]

    def _keep_the_best(self, measured: Mapping[str, float]) -> dict[str, float]:
        """Save the policy if its mean EM, then its mean F1, is the best so far; return the metrics under `eval/`."""
        score = dev_score(measured)
        if self._best is None or score > self._best:
            self._best = score
            self._save_best(measured)
        return under_eval(measured)

    def _save_best(self, measured: Mapping[str, float]) -> None:
        """Save the policy as the best model; what it is to remember besides is asked of the process that writes."""
        describe = self._describe if self._processes.is_main else None
        self._saved.save_best({} if describe is None else describe(self._step, self._total_steps, measured))

    def _save_checkpoint(self) -> None:
        self._saved.save_checkpoint(Progress(self._step, self._schedule_steps, self._best))

    def _open_log(self) -> MetricLog:
        if not self._processes.is_main:
            return UnwrittenLog()
        return MetricLog(self._run_folder.logs, step=self._step, tensorboard=self._config.logging.tensorboard)

    def _finish(self, log: MetricLog, is_interrupted: bool) -> TrainingSummary:
        """Say how the run ended, with a checkpoint of the last step and, at its end, a best model in place."""
        where = f"after step {self._step} of {self._total_steps}"
        if not self._is_over:
            log.say(f"interrupted {where}: go on with the same command and --resume")
        elif self._best is None:
            self._save_best({})
        if self._collapse is not None:
            log.warn(f"ended {where}: {self._collapse}")
        if not is_interrupted and not self._is_due(self._config.logging.checkpoint_every):
            self._save_checkpoint()
        return TrainingSummary(self._step, self._total_steps, is_interrupted, self._collapse, self._best)

    def _is_due(self, every: int) -> bool:
        return self._step % every == 0

    @property
    def _is_last(self) -> bool:
        return self._step >= self._total_steps

    @property
    def _is_over(self) -> bool:
        return self._is_last or self._collapse is not None

    @contextmanager
    def _timed(self, name: str) -> Generator[None]:
        started = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - started
