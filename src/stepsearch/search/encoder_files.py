"""What sentence-transformers keeps beside a model: pooling, prompts, how much is read."""

import json
from dataclasses import dataclass
from typing import Any

from stepsearch.errors import SearchError
from stepsearch.search.pretrained import file_of_model

# sentence-transformers' names of the two sides of a search.
_QUERY_PROMPTS = ("query",)
_PASSAGE_PROMPTS = ("document", "passage", "corpus")
_POOLING = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "mean": "mean",
    "cls": "cls",
    "lasttoken": "last",
}
_KNOWN_MODULES = frozenset({"Transformer", "Pooling", "Normalize"})


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """What a model says of how it is used; a plain model of transformers' says nothing, and gets the defaults."""

    pooling: str = "mean"
    normalize: bool = True
    max_tokens: int | None = None
    query_prefix: str = ""
    passage_prefix: str = ""


def read_encoder_files(name: str) -> EncoderFiles:
    """Return what the files of a model, by folder or hub name, say.

    Raises:
        SearchError: the model computes its vectors in a way that is not supported, or a file is damaged.
    """
    modules = _read(name, "modules.json")
    if modules is None:
        return EncoderFiles()
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    unknown = [kind for kind in kinds if kind not in _KNOWN_MODULES]
    if unknown:
        raise SearchError(
            f"search.dense.encoder: {name} has a part of the kind {unknown[0]}, which is not supported: choose an "
            "encoder of a transformer, pooling and normalising, or serve it and set search.dense.url"
        )
    prompts = (_read(name, "config_sentence_transformers.json") or {}).get("prompts") or {}
    return EncoderFiles(
        pooling=_pooling(name, modules),
        normalize="Normalize" in kinds,
        max_tokens=(_read(name, "sentence_bert_config.json") or {}).get("max_seq_length"),
        query_prefix=_prompt(prompts, _QUERY_PROMPTS),
        passage_prefix=_prompt(prompts, _PASSAGE_PROMPTS),
    )


def _pooling(name: str, modules: list[dict[str, Any]]) -> str:
    paths = [module["path"] for module in modules if str(module.get("type")).endswith("Pooling")]
    if not paths:
        return "mean"
    config = _read(name, f"{paths[0]}/config.json") or {}
    modes = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    modes = modes or [str(config.get("pooling_mode", "mean"))]
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise SearchError(
            f"search.dense.encoder: {name} pools by {' and '.join(modes)}, which is not supported: set "
            "search.dense.pooling to mean, cls or last and see whether it finds as much"
        )
    return _POOLING[modes[0]]


def _prompt(prompts: dict[str, str], names: tuple[str, ...]) -> str:
    return next((prompts[name] for name in names if name in prompts), "")


def _read(name: str, file: str) -> Any:
    """Return the JSON value of a model's file, None where it has no such file."""
    path = file_of_model(name, file)
    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SearchError(f"search.dense.encoder: {path} cannot be read: {error}") from None


def reads_images(name: str) -> bool:
    """Return whether a model, by folder or hub name, encodes images and texts; False for what cannot be read."""
    config = _read(name, "config.json") or {}
    return "vision_config" in config and "text_config" in config
