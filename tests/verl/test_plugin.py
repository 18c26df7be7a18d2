"""How verl finds the agent loop, and what the loop refuses."""

import asyncio
import subprocess
import sys

import pytest

verl = pytest.importorskip("verl", reason="verl is not installed here; make test-verl sets up an environment for it")

from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, DictConfigWrap
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.workers.rollout.replica import TokenOutput

from stepsearch.data.verl_rows import question_to_row
from stepsearch.errors import ConfigError, DataError, TrainingError
from stepsearch.integrations.verl.agent_loop import StepSearchAgentLoop, StepSearchOutput
from stepsearch.types import Question

SHOW = """
import verl
from verl.experimental.agent_loop.agent_loop import _agent_loop_registry
print(_agent_loop_registry["stepsearch"]["_target_"])
"""


class GivesUp:
    """An engine whose request is taken back."""

    async def generate(self, request_id, *, prompt_ids, sampling_params):
        return TokenOutput(token_ids=[], stop_reason="aborted")


def agent_loop(tokenizer, response_length=900, prompt_length=400):
    sizes = {"prompt_length": prompt_length, "response_length": response_length, "calculate_log_probs": True}
    config = OmegaConf.create(
        {
            "actor_rollout_ref": {"rollout": sizes, "model": {"path": "no/folder"}},
            "data": {},
            "stepsearch": {"search": {"engine_type": "mock"}},
        }
    )
    return StepSearchAgentLoop(
        DictConfigWrap(config), GivesUp(), tokenizer.hf, None, RLHFDataset, DictConfigWrap(config.data), "qwen2"
    )


def run(loop, **more):
    row = question_to_row(Question("q", "Who?", ("Ann",)), 0, "train")
    return asyncio.run(loop.run({"temperature": 1.0}, **row, **more))


def test_a_fresh_process_knows_the_loop():
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[-1] == "stepsearch.integrations.verl.agent_loop.StepSearchAgentLoop"


def test_every_token_keeps_its_reward():
    output = StepSearchOutput(
        prompt_ids=[1],
        response_ids=[2, 3, 4, 5],
        response_mask=[1, 1, 0, 1],
        token_level_scores=[0.0, 0.5, 0.0, 1.0],
        reward_score=1.5,
        metrics=AgentLoopMetrics(),
    )
    fields = output.as_dict()
    assert fields["rm_scores"].tolist() == [0.0, 0.5, 0.0, 1.0]
    assert "token_level_scores" not in fields


def test_a_trainer_that_would_lose_the_rewards_of_steps_is_refused(spelled_tokenizer):
    with pytest.raises(ConfigError, match=r"start verl\.trainer\.main_ppo with trainer\.use_v1=True"):
        run(agent_loop(spelled_tokenizer))


def test_sizes_in_which_no_search_fits_are_refused(spelled_tokenizer):
    with pytest.raises(ConfigError, match=r"data\.max_response_length=512 leaves no room"):
        agent_loop(spelled_tokenizer, response_length=512)
    with pytest.raises(DataError, match=r"data\.max_prompt_length=20"):
        run(agent_loop(spelled_tokenizer, prompt_length=20), session_id=0)


def test_half_an_episode_is_no_episode(spelled_tokenizer):
    with pytest.raises(TrainingError, match="the engine gave up"):
        run(agent_loop(spelled_tokenizer), session_id=0)
