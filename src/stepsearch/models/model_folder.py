"""A model as a folder: `config.json`, `model.safetensors`, tokenizer, and `stepsearch.json` and a card beside them."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from stepsearch.data.whole_files import replace_folder, write_text
from stepsearch.errors import ModelError, one_line
from stepsearch.hub_lookup import HubAnswer, ask_hub
from stepsearch.models.adapters import ADAPTER_FOLDER, Adapters
from stepsearch.models.attention_choice import AUTO, refuse_attention
from stepsearch.models.model_card import CARD, model_card
from stepsearch.models.run_record import RUN, RunRecord
from stepsearch.protocol import TAGS

RECORD = "stepsearch.json"
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.*", "*.tiktoken", "spiece.model", "sentencepiece*.model")
TOKENIZER_SETTINGS = "tokenizer_config.json"
# Where a run's model lies, seen from the run's folder, from that of its checkpoints, and from a checkpoint.
_NEAR = ("checkpoints/best_model", "best_model", "../best_model")
# What transformers and its readers raise on files that are missing, damaged or of another kind.
LOAD_ERRORS = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError, SafetensorError)


def load_causal_lm(name: str, *, dtype: str, attention: str) -> PreTrainedModel:
    """Return the causal LM of a folder or hub name.

    Args:
        name: the folder or hub name.
        dtype: of the weights; auto: as they were saved.
        attention: transformers' implementation; auto: its own choice.

    Raises:
        ConfigError: that attention cannot be had.
        ModelError: it cannot be found or read, or its weights do not belong to its `config.json`.
    """
    where = _source(name)
    kind = "auto" if dtype == "auto" else getattr(torch, dtype)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name,
            dtype=kind,
            attn_implementation=None if attention == AUTO else attention,
            output_loading_info=True,
            **where,
        )
    except LOAD_ERRORS as error:
        refuse_attention(load_config_of(name), attention)
        raise ModelError(_explain(name, error)) from None
    causal_lm, report = loaded
    wrong = [*report["missing_keys"], *(key for key, *_ in report.get("mismatched_keys", ()))]
    if wrong:
        raise ModelError(f"model {name}: the weights lack {sorted(wrong)[0]} that config.json asks for")
    return causal_lm


def load_config_of(name: str) -> PreTrainedConfig:
    """Return the `config.json` of a folder or hub name.

    Raises:
        ModelError: it cannot be found or read.
    """
    where = _source(name)
    try:
        return AutoConfig.from_pretrained(name, **where)
    except LOAD_ERRORS as error:
        raise ModelError(_explain(name, error)) from None


def load_hf_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a folder or hub name.

    Raises:
        ModelError: it cannot be found or read.
    """
    where = _source(name)
    if Path(name).is_dir() and not any(any(Path(name).glob(pattern)) for pattern in VOCABULARIES):
        raise ModelError(f"model folder {name} has no tokenizer: tokenizer.json is missing")
    try:
        return AutoTokenizer.from_pretrained(name, **where)
    except LOAD_ERRORS as error:
        raise ModelError(_explain(name, error)) from None


def has_tokenizer_settings(name: str) -> bool:
    """Return whether a folder has the file without which a tokenizer is given tokens of its class's own.

    A name that is no folder's counts as one that has: the hub serves models whole.
    """
    return not Path(name).is_dir() or (Path(name) / TOKENIZER_SETTINGS).is_file()


def read_record(name: str) -> dict[str, Any]:
    """Return what `stepsearch.json` in a folder says; empty without one.

    Raises:
        ModelError: it is no JSON object.
    """
    path = Path(name) / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): save the model again") from None
    if not isinstance(record, dict):
        raise ModelError(f"{path} does not hold a JSON object: save the model again")
    return record


def save_model_folder(
    folder: Path,
    causal_lm: PreTrainedModel,
    hf_tokenizer: PreTrainedTokenizerFast,
    record: Mapping[str, Any],
    adapters: Adapters | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model folder that appears whole or not at all; one that stood there is replaced.

    Args:
        folder: where.
        causal_lm: the model.
        hf_tokenizer: its tokenizer.
        record: the content of `stepsearch.json`.
        adapters: worked into the weights, and written beside them too.
        weights: the model's, where it does not hold them itself.

    Raises:
        ModelError: the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.writing")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        state = weights if adapters is None else adapters.merged(causal_lm)
        causal_lm.save_pretrained(temporary, state_dict=None if state is None else dict(state))
        if adapters is not None:
            adapters.save(temporary / ADAPTER_FOLDER, causal_lm.config.name_or_path or "")
        hf_tokenizer.save_pretrained(temporary)
        for name, text in _own_files({"grammar": list(TAGS), **record}, has_adapter=adapters is not None).items():
            (temporary / name).write_text(text, encoding="utf-8")
        settle_folder(temporary, folder)
    except OSError as error:
        raise ModelError(f"model folder {folder} cannot be written: {error.strerror or error}") from None


def read_run(name: str) -> RunRecord | None:
    """Return what `stepsearch.json` in a folder says of the run that made the model; None where it says nothing.

    Raises:
        ModelError: it is damaged.
    """
    record = read_record(name)
    if RUN not in record:
        return None
    try:
        return RunRecord.from_json(record[RUN])
    except ValueError as error:
        raise ModelError(f"{Path(name) / RECORD}, {RUN}: {error}; save the model again") from None


def rewrite_run(folder: Path, run: RunRecord) -> None:
    """Let a saved model's `stepsearch.json` and card say something else of its run.

    Raises:
        ModelError: the folder's record is damaged.
        DataError: it cannot be written.
    """
    record = read_record(str(folder)) | {RUN: run.to_json()}
    for name, text in _own_files(record, has_adapter=(folder / ADAPTER_FOLDER).is_dir()).items():
        write_text(folder / name, text)


def _own_files(record: Mapping[str, Any], *, has_adapter: bool) -> dict[str, str]:
    """Return what lies beside the files of transformers, by name."""
    run = RunRecord.from_json(record[RUN]) if RUN in record else None
    return {
        RECORD: json.dumps(record, indent=2, ensure_ascii=False) + "\n",
        CARD: model_card(run, record["prompt"], has_adapter=has_adapter),
    }


def settle_folder(temporary: Path, folder: Path) -> None:
    """Put a finished folder in the place of `folder`, after its files have reached the disk."""
    for path in temporary.rglob("*"):
        if path.is_file():
            _sync(path)
    _sync(temporary)
    replace_folder(temporary, folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _source(name: str) -> dict[str, bool]:
    """Return how to ask transformers for a folder or hub name.

    Raises:
        ModelError: it is a folder without a model, or a name that the hub refuses.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            models = [Path(os.path.normpath(path / part)) for part in _NEAR if (path / part / "config.json").is_file()]
            near = f"; {models[0]} is one" if models else ""
            raise ModelError(f"model folder {name} has no config.json: it is not a model saved by transformers{near}")
        return {"local_files_only": True}
    if path.exists():
        raise ModelError(f"model {name} is a file: name the folder that holds config.json")
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"model folder {name} does not exist")
    answer = ask_hub(name)
    if answer is HubAnswer.LACKS:
        raise ModelError(
            f"model {name} is neither a folder here nor a model on the hub that may be read without logging in"
        )
    return {"local_files_only": answer is HubAnswer.SILENT}


def _explain(name: str, error: Exception) -> str:
    reason = one_line(error)
    if Path(name).expanduser().is_dir():
        return f"model folder {name} cannot be loaded, a file is missing, damaged or of another kind: {reason}"
    return (
        f"model {name} is no folder here, and the hub cannot be reached or does not give it: name a folder, or "
        f"model.name=tiny, or connect to the network ({reason})"
    )
