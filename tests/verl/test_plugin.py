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
from stepsearch.rewards import StepSearchRewardCalculator
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


class Says:
    """An engine that says given texts, and no log-probabilities."""

    def __init__(self, tokenizer, *texts):
        self.turns = [tokenizer.encode_markup(text) for text in texts]

    async def generate(self, request_id, *, prompt_ids, sampling_params):
        return TokenOutput(token_ids=self.turns.pop(0), stop_reason="completed")


class EverySearch(StepSearchRewardCalculator):
    def compute_step_reward(self, retrieved_docs, golden_docs, history, episode_id, step):
        return 0.25


class CustomAgentLoop(StepSearchAgentLoop):
    calculator = EverySearch


def agent_loop(tokenizer, response_length=900, prompt_length=400, kind=StepSearchAgentLoop, server=None, logprobs=True):
    sizes = {"prompt_length": prompt_length, "response_length": response_length, "calculate_log_probs": logprobs}
    config = OmegaConf.create(
        {
            "actor_rollout_ref": {"rollout": sizes, "model": {"path": "no/folder"}},
            "data": {},
            "stepsearch": {"search": {"engine_type": "mock"}},
        }
    )
    data = DictConfigWrap(config.data)
    return kind(DictConfigWrap(config), server or GivesUp(), tokenizer.hf, None, RLHFDataset, data, "qwen2")


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


def test_a_loop_with_rewards_of_its_own(spelled_tokenizer):
    turns = ("<search>a</search>", "<search>b</search>", "<answer>Ann</answer>")
    first, second, third = (len(spelled_tokenizer.encode_markup(turn)) for turn in turns)
    server = Says(spelled_tokenizer, *turns)
    loop = agent_loop(spelled_tokenizer, kind=CustomAgentLoop, server=server, logprobs=False)

    output = run(loop, session_id=0)

    scores, mask = output.token_level_scores, output.response_mask
    sampled = [score for score, here in zip(scores, mask, strict=True) if here]
    assert [place for place, score in enumerate(sampled, 1) if score] == [first, first + second, first + second + third]
    assert [score for score in scores if score] == [0.25, 0.25, 1.0]
    assert output.response_logprobs is None
