"""`stepsearch train`, and the same as a function: `stepsearch.train`."""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from stepsearch.cli.assembly import TINY
from stepsearch.cli.hub_upload import refuse_impossible_upload, upload_model
from stepsearch.cli.players import Player, use_threads
from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.cli.run_records import UNKNOWN, Origin, describer, typed_command
from stepsearch.cli.searching import find_corpus
from stepsearch.cli.starting_policy import device_type, starting_policy
from stepsearch.cli.training_signal import signal_lines
from stepsearch.config import Config, asked_keys, load_config
from stepsearch.data import read_questions
from stepsearch.errors import ModelError, TrainingError
from stepsearch.evaluation.evaluator import question_seeds, run_questions
from stepsearch.evaluation.metrics import measure
from stepsearch.models.run_record import WARM_START
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.trunk import usable_workers
from stepsearch.progress import Advance
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.search import GuardedSearch, SearchEngine, build_search_engine
from stepsearch.search.guarded_search import guard
from stepsearch.training.checkpoints import check_unused, checkpoint_folders
from stepsearch.training.preflight import check_processes, check_prompts, check_settings
from stepsearch.training.processes import join_processes, leave_processes
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.sharing_runner import SharingRunner
from stepsearch.training.steppo_trainer import Evaluate, OnStep, StePPOTrainer, TrainingSummary
from stepsearch.types import Question

TRAINING = "training"


def run(args: argparse.Namespace) -> None:
    """Train on a file of questions.

    Raises:
        StepSearchError: a file, a setting or the output folder is wrong, or training could not go on.
        KeyboardInterrupt: the run was interrupted, after a checkpoint.
    """
    if args.push_to_hub:
        refuse_impossible_upload(args.push_to_hub)
    config = load_config(args.config, args.overrides)
    is_main = join_processes(device_type(config)).is_main
    console = open_console() if is_main else Console(quiet=True)
    engine_asked = "search.engine_type" in asked_keys(args.config, args.overrides)
    settings, line = find_corpus(config.search, args.musique_path, engine_asked)
    questions = read_questions(args.musique_path)
    eval_questions = read_questions(args.eval_musique_path) if args.eval_musique_path else None
    say(console, line)
    best_model = train(
        config.model_copy(update={"search": settings}),
        questions,
        output_dir=args.output_dir,
        eval_questions=eval_questions,
        resume=args.resume,
        console=console,
        origin=Origin(args.musique_path, args.eval_musique_path, typed_command(args.typed)),
    )
    leave_processes()
    if args.push_to_hub and is_main:
        say(console, f"pushed to {_push(best_model, args.push_to_hub)}")


def _push(best_model: Path, repository: str) -> str:
    """Push a trained model, and return its address.

    Raises:
        ModelError: the hub cannot be reached or refuses; it says what to type later, as the model is there.
    """
    try:
        return upload_model(best_model, repository, private=False)
    except ModelError as error:
        raise ModelError(
            f"training is done and the model saved, but {error}; push it later by: stepsearch push --model-path "
            f"{best_model} --repo {repository}"
        ) from None


def train(
    config: Config,
    questions: Sequence[Question],
    *,
    output_dir: str | Path,
    eval_questions: Sequence[Question] | None = None,
    search_engine: SearchEngine | None = None,
    reward_calculator: StepSearchRewardCalculator | None = None,
    resume: bool = False,
    console: Console | None = None,
    origin: Origin = UNKNOWN,
) -> Path:
    """Train a policy with StePPO and return the folder of the best model.

    Where several processes were started (`accelerate launch`, `torchrun`), each calls it, and they train together.

    Args:
        config: all settings.
        questions: what to train on, a `StepSearchDataset` for one.
        output_dir: the run's root; see `RunFolder`.
        eval_questions: the first `evaluation.dev_questions` of them choose the best model; without any, the last is it.
        search_engine: what the policy searches with; default: what the search settings name.
        reward_calculator: rewards the episodes; default: the method's own, as the reward settings say.
        resume: go on from the run's last checkpoint.
        console: shows the progress; default: the standard output, in the first process.
        origin: where the questions come from, for the card beside the best model.

    Raises:
        StepSearchError: a setting or the output folder is wrong, or training could not go on.
        KeyboardInterrupt: the run was interrupted, after a checkpoint.
    """
    processes = join_processes(device_type(config))
    shown = console or (open_console() if processes.is_main else Console(quiet=True))
    if not questions:
        raise TrainingError("there are no questions to train on")
    folder = RunFolder.at(output_dir)
    check_settings(config)
    workers = usable_workers(config.training, torch.device(device_type(config)))
    check_processes(processes.count, workers, config.rollout.engine)
    use_threads(config)
    if processes.count > 1:
        say(shown, f"{processes.count} processes train together ({config.training.parallel})")
    if resume:
        say(shown, _opening_words(folder))
    else:
        check_unused(folder.checkpoints)
    engine = build_search_engine(config.search) if search_engine is None else search_engine
    origin = replace(origin, engine=_class_name(search_engine), rewards=_class_name(reward_calculator))
    if reward_calculator is None and processes.is_main:
        for said in signal_lines(config, questions, own_engine=search_engine is not None):
            say(shown, said)
    progress = StageProgress(shown, {WARM_START: 40, TRAINING: 60} if config.model.name == TINY else {TRAINING: 1})
    held = folder.held() if processes.is_main else nullcontext()
    with held, progress.running(), processes.together():
        policy = starting_policy(
            config, questions, engine, folder, resume=resume, progress=progress, console=shown, origin=origin
        )
        with progress.stage(TRAINING) as advance:
            summary = train_policy(
                config,
                policy,
                questions,
                folder,
                search=guard(engine, config.search),
                reward_calculator=reward_calculator,
                eval_questions=eval_questions,
                resume=resume,
                advance=advance,
                origin=origin,
            )
    say(shown, _closing_words(summary, folder))
    return folder.best_model


def _class_name(brought: SearchEngine | StepSearchRewardCalculator | None) -> str | None:
    """Return what a script's own part is called; None where there is none."""
    return None if brought is None or type(brought) is StepSearchRewardCalculator else type(brought).__name__


def train_policy(
    config: Config,
    policy: StepSearchModel,
    questions: Sequence[Question],
    folder: RunFolder,
    *,
    search: GuardedSearch,
    reward_calculator: StepSearchRewardCalculator | None,
    eval_questions: Sequence[Question] | None,
    resume: bool,
    advance: Advance,
    origin: Origin = UNKNOWN,
) -> TrainingSummary:
    """Run StePPO on a policy, in place.

    Raises:
        KeyboardInterrupt: the run was interrupted, after a checkpoint.
    """
    player = Player(policy, search, config, learns=True)
    dev = list(eval_questions or [])[: config.evaluation.dev_questions]
    check_prompts(dev, policy.tokenizer, config)
    trainer = StePPOTrainer(
        policy,
        player.runner(config.rollout.temperature),
        search,
        reward_calculator or StepSearchRewardCalculator(config.reward),
        questions,
        config,
        folder,
        evaluate=_dev_evaluation(player, dev) if dev else None,
        on_step=_steps_shown(advance),
        describe=describer(config, questions, origin, dev),
    )
    if resume:
        trainer.resume()
    summary = trainer.train()
    if summary.interrupted:
        raise KeyboardInterrupt
    return summary


def _dev_evaluation(player: Player, dev: Sequence[Question]) -> Evaluate:
    """Return what measures the policy, as it is when called, on the dev questions."""
    seed, evaluation = player.config.seed, player.config.evaluation
    runner = SharingRunner(player.runner(evaluation.temperature), join_processes())
    seeds = question_seeds(seed, len(dev))

    def evaluate() -> Mapping[str, float]:
        scalars = measure(run_questions(runner, dev, seeds, evaluation.batch_size)).scalars()
        return {f"eval/{dev[0].dataset or 'dev'}/{name}": value for name, value in scalars.items()}

    return evaluate


def _steps_shown(advance: Advance) -> OnStep:
    """Return what moves the progress on by each step that is done."""
    done = 0.0

    def show(step: int, total: int, metrics: Mapping[str, float]) -> None:
        nonlocal done
        advance(step / total - done, f"step {step} of {total}, reward {metrics['reward/total']:.3f}")
        done = step / total

    return show


def _opening_words(folder: RunFolder) -> str:
    """Return what there is to go on with."""
    found = checkpoint_folders(folder.checkpoints)
    if not found:
        return f"no checkpoint in {folder.checkpoints} to go on from: starting at the first step"
    return f"going on from {found[-1]}"


def _closing_words(summary: TrainingSummary, folder: RunFolder) -> str:
    best = "" if summary.best is None else f", best dev EM {summary.best[0]:.3f} F1 {summary.best[1]:.3f}"
    return (
        f"{summary.steps} steps{best}; logs in {folder.logs}, best model in {folder.best_model}\n"
        f"next: stepsearch inference --model-path {folder.best_model} --mode interactive"
    )
