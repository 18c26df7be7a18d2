"""The policy that a training run starts from, in each of its processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console

from stepsearch.cli.assembly import TINY, build_policy
from stepsearch.cli.progress import StageProgress, say
from stepsearch.cli.run_records import Origin, warm_start_record
from stepsearch.config import Config
from stepsearch.models.run_record import WARM_START
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.search import SearchEngine
from stepsearch.training.processes import join_processes
from stepsearch.training.run_folder import RunFolder
from stepsearch.types import Question


def device_type(config: Config) -> Literal["cpu", "cuda"]:
    """Return what kind of device the policy will be on, without taking one that may be another process's."""
    if config.model.device != "auto":
        return config.model.device
    return "cuda" if torch.cuda.is_available() and config.model.name != TINY else "cpu"


def load_saved(folder: Path, config: Config) -> StepSearchModel:
    """Return a policy that a run has saved, as the run itself has it: the same device, type and attention.

    Raises:
        ModelError: the folder cannot be loaded.
    """
    return StepSearchModel.load(config.model.model_copy(update={"name": str(folder), "device": device_type(config)}))


def starting_policy(
    config: Config,
    questions: Sequence[Question],
    engine: SearchEngine,
    folder: RunFolder,
    *,
    resume: bool,
    progress: StageProgress,
    console: Console,
    origin: Origin,
) -> StepSearchModel:
    """Return the policy as it was before the first step; a warm start that is there is not done again on resuming.

    Of several processes the first warms the tiny policy up, and the others take what it has saved.

    Args:
        config: all settings.
        questions: what is trained on.
        engine: what demonstrations are searched with.
        folder: the warm start is kept among its checkpoints.
        resume: whether an earlier run's warm start counts.
        progress: shows the warm start.
        console: is told where there is none.
        origin: where the questions come from, for the record beside the saved policy.

    Raises:
        StepSearchError: the model cannot be loaded, or the questions yield no demonstrations.
    """
    if config.model.name != TINY:
        return build_policy(config, questions, engine)
    processes = join_processes()
    warm_start = folder.checkpoints / "warm_start"
    if processes.gather(resume and warm_start.is_dir())[0]:
        progress.skip(WARM_START)
        return load_saved(warm_start, config)
    if not processes.is_main:
        processes.gather(None)
        return load_saved(warm_start, config)
    if not config.warm_start.phases:
        say(console, "the tiny policy knows nothing: warm_start.phases is empty (config/tiny.yaml has a curriculum)")
    with progress.stage(WARM_START) as advance:
        policy = build_policy(config, questions, engine, advance)
    policy.save(warm_start, warm_start_record(config, questions, origin))
    # The others wait for it.
    processes.gather(None)
    return policy
