"""The settings that a saved model brings along, and the policy to train."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsearch.cli.players import observation_builder
from stepsearch.config import Config, Section, asked_keys, load_config
from stepsearch.errors import ConfigError, ModelError
from stepsearch.models.model_folder import RECORD, read_record
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tiny import build_tiny_policy
from stepsearch.models.tiny_tokenizer import name_token_groups
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.models.trunk import chosen_device, usable_workers
from stepsearch.preparation.demonstrations import DemonstrationWriter
from stepsearch.progress import Advance, unseen
from stepsearch.search import SearchEngine
from stepsearch.search.guarded_search import guard
from stepsearch.training.demonstration_batches import DemonstrationEncoder
from stepsearch.training.preflight import check_prompts
from stepsearch.training.warm_start import warm_start
from stepsearch.types import Question

TINY = "tiny"
_REMEMBERED = ("model", "search", "rollout", "reward", "training")
# A model folder may come from anyone: what it says must start no program, and send nothing and no token anywhere.
_FOR_THE_USER_TO_SAY = frozenset({"url", "command", "environment", "token_variable", "cache_dir"})


def settings_of_model(
    model_path: str, path: Path | None, overrides: Sequence[str], knowledge_base: Path | None = None
) -> Config:
    """Return the settings for using a saved model.

    Args:
        model_path: the model; what it was trained with holds unless the user says otherwise.
        path: the user's config file.
        overrides: they win over the file.
        knowledge_base: wins over all.

    Raises:
        ConfigError: a setting of the user's is wrong.
        ModelError: the model remembers settings that there are not.
    """
    config = load_config(path, overrides, base=_remembered_settings(model_path))
    update: dict[str, Section] = {"model": config.model.model_copy(update={"name": model_path})}
    if knowledge_base is not None:
        update["search"] = config.search.model_copy(update={"knowledge_base": str(knowledge_base)})
    return config.model_copy(update=update)


def settings_to_play(
    model_path: str, path: Path | None, overrides: Sequence[str], knowledge_base: Path | None = None
) -> Config:
    """Return the settings for playing a saved model: on an accelerator in the precision that training sampled it in.

    Arguments and errors are those of `settings_of_model`.
    """
    config = settings_of_model(model_path, path, overrides, knowledge_base)
    is_half = read_record(os.path.expanduser(model_path)).get("sampled_in") == "bfloat16"
    if not is_half or "model.dtype" in asked_keys(path, overrides) or chosen_device(config.model.device).type == "cpu":
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})})


def _remembered_settings(model_path: str) -> Mapping[str, Any]:
    folder = os.path.expanduser(model_path)
    remembered = {section: values for section, values in read_record(folder).items() if section in _REMEMBERED}
    if isinstance(remembered.get("rollout"), Mapping):
        remembered["rollout"] = {key: value for key, value in remembered["rollout"].items() if key != "engine"}
    if "search" in remembered:
        remembered["search"] = _harmless(remembered["search"])
    try:
        load_config(base=remembered)
    except ConfigError as error:
        problem = str(error).removeprefix("config: ")
        raise ModelError(
            f"{os.path.join(folder, RECORD)}: {problem}; mend it there, or save the model again with this version"
        ) from None
    return remembered


def _harmless(value: Any) -> Any:
    """Return search settings without those that only the user may set, wherever they stand."""
    if isinstance(value, Mapping):
        return {key: _harmless(inner) for key, inner in value.items() if key not in _FOR_THE_USER_TO_SAY}
    return [_harmless(inner) for inner in value] if isinstance(value, list) else value


def build_policy(
    config: Config, questions: Sequence[Question], search: SearchEngine, advance: Advance = unseen
) -> StepSearchModel:
    """Return the policy to train: loaded by name, or the embedded tiny one, warm-started on these questions.

    Raises:
        ModelError: the model cannot be loaded.
        TrainingError: the questions yield no demonstrations.
    """
    if config.model.name != TINY:
        return StepSearchModel.load(config.model)
    causal_lm, hf_tokenizer = build_tiny_policy(config.seed, config.model.tiny_width, config.model.tiny_layers)
    style = "question" if config.model.prompt == "auto" else config.model.prompt
    tokenizer = ModelTokenizer(hf_tokenizer, style)
    policy = StepSearchModel(causal_lm, tokenizer)
    if config.model.device != "auto":
        policy.to(chosen_device(config.model.device))
    check_prompts(questions, tokenizer, config)
    warm_start(
        policy.causal_lm,
        questions,
        DemonstrationWriter(
            guard(search, config.search), top_k=config.search.top_k, max_searches=config.reward.max_search_steps
        ),
        DemonstrationEncoder(tokenizer, observation_builder(tokenizer, config.rollout), config.model.max_length),
        config.warm_start,
        seed=config.seed,
        exchangeable=name_token_groups(hf_tokenizer),
        workers=usable_workers(config.training, policy.causal_lm.device),
        on_update=lambda update: advance(1 / update.updates, f"loss {update.loss:.2f}"),
    )
    return policy
