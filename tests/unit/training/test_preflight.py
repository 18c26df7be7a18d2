import pytest
import torch

from stepsearch.config import Config, RolloutSettings, load_config
from stepsearch.errors import ConfigError
from stepsearch.models import ModelTokenizer
from stepsearch.training.preflight import check_processes, check_prompts, check_sampling, check_weights
from stepsearch.types import Question


@pytest.mark.parametrize(("name", "value"), [("temperature", 0.0), ("top_p", 0.9), ("top_k", 5)])
def test_sampling_from_another_distribution_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"rollout\.{name}={value}"):
        check_sampling(RolloutSettings.model_validate({name: value}))


def test_plain_sampling_at_any_temperature_is_allowed() -> None:
    check_sampling(RolloutSettings(temperature=0.7))


def settings(max_length: int) -> Config:
    budgets = {"max_turn_tokens": 20, "max_observation_tokens": 30, "max_passage_tokens": 20}
    return load_config(None, [], base={"model": {"max_length": max_length}, "rollout": budgets})


def test_a_prompt_that_leaves_no_room_is_refused_with_the_arithmetic(tokenizer: ModelTokenizer) -> None:
    questions = [Question("short", "a", ("x",)), Question("long", "a b c d", ("x",))]
    longest = len(tokenizer.encode_prompt("a b c d"))
    needed = longest + 20 + 30 + 16
    check_prompts(questions, tokenizer, settings(needed))
    message = rf"prompt {longest} \(question 'long'\).* 20 .* 30 \+ 16 for a last turn = {needed};"
    with pytest.raises(ConfigError, match=message):
        check_prompts(questions, tokenizer, settings(needed - 1))


def test_weights_in_which_small_steps_vanish_are_refused() -> None:
    layer = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    with pytest.raises(ConfigError, match=r"weights are bfloat16.*model\.dtype=float32"):
        check_weights(layer)
    check_weights(layer.requires_grad_(False))
    check_weights(torch.nn.Linear(2, 2))


def test_what_one_process_has_to_train_with_is_refused_to_several() -> None:
    check_processes(2, 1, "in_process")
    check_processes(1, 2, "vllm")
    with pytest.raises(ConfigError, match=r"training\.workers=3 with 2 processes.*set training\.workers=1"):
        check_processes(2, 3, "in_process")
    with pytest.raises(ConfigError, match=r"rollout\.engine=vllm_server is for .* one process, and there are 2: set"):
        check_processes(2, 1, "vllm_server")
