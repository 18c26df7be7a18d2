import json

import pytest

from stepsearch.errors import DataError
from stepsearch.integrations.verl.worker_parts import worker_parts
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.types import Question

QUESTION = Question("q1", "Who wrote Up?", ("Ann",))


@pytest.fixture
def parts(spelled_tokenizer):
    settings = {
        "search": {"engine_type": "mock", "top_k": 1},
        "model": {"prompt": "question"},
        "reward": {"max_search_steps": 2},
        "rollout": {"max_turn_tokens": 40},
    }
    return worker_parts(json.dumps(settings), "no/folder", spelled_tokenizer.hf, StepSearchRewardCalculator)


def test_a_response_is_as_long_as_verl_has_room_for(parts, spelled_tokenizer):
    prompt = len(spelled_tokenizer.encode_prompt("Who wrote Up?"))
    episode = parts.episode(QUESTION, prompt_length=99, response_length=30, max_length=None)
    assert len(episode.context_ids) == prompt
    assert episode.turn_tokens == 30
    assert parts.episode(QUESTION, 99, 30, max_length=prompt + 20).turn_tokens == 20
    assert parts.episode(QUESTION, 99, 200, max_length=None).turn_tokens == 40


def test_a_prompt_that_verl_has_no_room_for_is_refused(parts, spelled_tokenizer):
    prompt = len(spelled_tokenizer.encode_prompt("Who wrote Up?"))
    with pytest.raises(
        DataError, match=rf"question 'q1': its prompt of {prompt} tokens .*max_prompt_length={prompt - 1}:"
    ):
        parts.episode(QUESTION, prompt - 1, 99, None)


def test_a_model_that_was_trained_here_keeps_its_prompt(spelled_tokenizer, tmp_path):
    (tmp_path / "stepsearch.json").write_text('{"prompt": "question"}')
    settings = json.dumps({"search": {"engine_type": "mock"}})
    trained = worker_parts(settings, str(tmp_path), spelled_tokenizer.hf, StepSearchRewardCalculator)
    foreign = worker_parts(settings, "no/folder", spelled_tokenizer.hf, StepSearchRewardCalculator)
    assert trained.tokenizer.prompt_style == "question"
    assert foreign.tokenizer.prompt_style == "instructions"
