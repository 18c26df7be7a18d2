"""Checkpoints to resume from: whole folders or none, of which the last good one counts.

checkpoints/step-000123/state.pt        everything that a resume needs
checkpoints/step-000123/manifest.json   sizes of the files, so that a half-written one is recognised
checkpoints/reference.pt                the policy that training started from, written once
"""

import hashlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from stepsearch.config import Config
from stepsearch.errors import ConfigError, ModelError, one_line
from stepsearch.models.model_folder import settle_folder
from stepsearch.types import Question

logger = logging.getLogger(__name__)

STATE, MANIFEST, REFERENCE = "state.pt", "manifest.json", "reference.pt"
# A resumed run may differ in these: they change how long it runs, what it writes, how much memory it needs, and at most
# the rounding of what it computes.
FREE_KEYS = (
    "logging.",
    "world.",
    "evaluation.every_steps",
    "evaluation.batch_size",
    "rollout.slots",
    "vllm.",
    "training.max_steps",
    "training.num_epochs",
    "training.threads",
    "training.workers",
    "training.stop_",
    "training.alarm_",
    "training.microbatch_tokens",
    "training.gradient_checkpointing",
    "training.offload",
    "training.parallel",
    "search.timeout_seconds",
    "search.retries",
    "search.backoff_seconds",
)
# An accelerator that holds the networks and their optimisers has no room for a second set of them.
IN_MAIN_MEMORY = "cpu"
READ_ERRORS = (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError)


def fingerprint(config: Config, questions: Sequence[Question]) -> dict[str, str]:
    """Return what a resumed run must have in common with the one that wrote the checkpoint: key to value as text."""
    digest = hashlib.blake2b(digest_size=10)
    for question in questions:
        digest.update(f"{question.id}\n{question.question}\n".encode())
    values = {key: repr(value) for key, value in _flat(config) if not key.startswith(FREE_KEYS)}
    return {**values, "training questions": f"{len(questions)} of hash {digest.hexdigest()}"}


def _flat(section: BaseModel, prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [(prefix + name, value)]
    return pairs


def check_fingerprint(saved: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to resume a run under settings that change what it computes; settings that it did not know yet are free.

    Raises:
        ConfigError: a setting differs; it is named with both values.
    """
    for key in sorted(saved.keys() & now.keys()):
        if saved[key] != now[key]:
            raise ConfigError(
                f"the run to be resumed had {key}={saved[key]}, not {now[key]}: set it back, or start anew in "
                "another --output-dir"
            )


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write `folder/step-<step>`, which appears whole or not at all, and delete all but the last `keep`.

    Args:
        folder: the run's checkpoints.
        step: whole steps taken.
        state: tensors and plain values.
        keep: how many checkpoints stay.

    Raises:
        ModelError: it cannot be written.
    """
    final = folder / f"step-{step:06d}"
    temporary = folder / f".{final.name}.writing"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        torch.save(dict(state), temporary / STATE)
        sizes = {STATE: (temporary / STATE).stat().st_size}
        (temporary / MANIFEST).write_text(json.dumps({"step": step, "sizes": sizes}), encoding="utf-8")
        settle_folder(temporary, final)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"checkpoint {final} cannot be written: {error}") from None
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def check_unused(folder: Path) -> None:
    """Refuse to mix a new run with an older one's checkpoints.

    Raises:
        ConfigError: there are checkpoints.
    """
    older = checkpoint_folders(folder)
    if older:
        raise ConfigError(
            f"{folder} holds a run's {older[-1].name}: go on with it by --resume, or name another --output-dir"
        )


def load_last_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the state of the newest whole checkpoint, in main memory; None if there is none at all.

    Its tensors are read from the file when they are used, and processes that load the same one share the memory.
    A damaged one is passed over with a warning that names it.

    Raises:
        ModelError: there are checkpoints, and every one is damaged.
    """
    candidates = checkpoint_folders(folder)
    for candidate in reversed(candidates):
        try:
            sizes = json.loads((candidate / MANIFEST).read_text(encoding="utf-8"))["sizes"]
            if any((candidate / name).stat().st_size != size for name, size in sizes.items()):
                raise ValueError("a file is cut short")
            return torch.load(candidate / STATE, map_location=IN_MAIN_MEMORY, weights_only=True, mmap=True)
        except READ_ERRORS as error:
            reason = one_line(error)
            logger.warning("checkpoint %s is damaged (%s): trying the one before it", candidate, reason)
    if candidates:
        raise ModelError(f"every checkpoint in {folder} is damaged: start anew in another --output-dir")
    return None


def save_reference(folder: Path, weights: Mapping[str, Any]) -> None:
    """Write the reference's weights, which stay the same for the whole run.

    Raises:
        ModelError: they cannot be written.
    """
    temporary = folder / f".{REFERENCE}.writing"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(dict(weights), temporary)
        os.replace(temporary, folder / REFERENCE)
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{folder / REFERENCE} cannot be written: {error}") from None


def load_reference(folder: Path) -> dict[str, Any]:
    """Return the reference's weights, in main memory.

    Raises:
        ModelError: they are missing or damaged.
    """
    try:
        return torch.load(folder / REFERENCE, map_location=IN_MAIN_MEMORY, weights_only=True, mmap=True)
    except READ_ERRORS as error:
        raise ModelError(
            f"{folder / REFERENCE} cannot be read ({one_line(error)}): start anew in another --output-dir"
        ) from None
