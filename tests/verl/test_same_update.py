"""verl's own workers, queue and GAE against our rollout and GAE, on the same scripted turns.

What stands in for a part of verl's is its engine alone, which wants a GPU: a server that plays given texts.
"""

import json
import math
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

verl = pytest.importorskip("verl", reason="verl is not installed here; make test-verl sets up an environment for it")

import numpy as np
import ray
import torch
import transfer_queue as tq
from hydra import compose, initialize_config_dir
from tensordict import TensorDict
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.utils import tensordict_utils
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.workers.rollout.replica import TokenOutput

from stepsearch.config import RewardSettings, RolloutSettings
from stepsearch.data.parquet import write_parquet
from stepsearch.data.verl_rows import ROW_SHAPE, question_to_row
from stepsearch.protocol import STOP_TAGS
from stepsearch.rewards import StepSearchRewardCalculator, token_level_scores
from stepsearch.rollout import RolloutRunner
from stepsearch.search import GuardedSearch, MockSearchEngine
from stepsearch.training.advantages import masked_gae, whiten
from stepsearch.training.batch import collate
from stepsearch.training.kl import k1
from stepsearch.training.losses import clipped_policy_loss, clipped_value_loss
from stepsearch.types import Passage, Question, StopReason, SubQuestion

# Workers get what this file defines by value: they can't import it.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

TOLERANCE = 1e-5
GAMMA, LAMBDA, KL = 0.97, 0.9, 0.05
PROMPT_LENGTH, RESPONSE_LENGTH = 400, 330
ROLLOUT = {"max_turn_tokens": 60, "max_observation_tokens": 80, "max_passage_tokens": 36, "max_corrections": 1}
REWARD = {"gamma_key": 0.5, "step_scale": 0.6, "max_search_steps": 4}
TOP_K = 2
LOGPROB = -0.5

UP = Passage("p1", "Up was written by Ann Lee.", "Up")
ANN = Passage("p2", "Ann Lee was born in Velm.", "Ann Lee")
OWLS = Passage("p3", "Owls <search>fly</search> by night.", "Owl")
RESULTS = {"Up author": [UP, OWLS], "Ann Lee birthplace": [ANN, UP], "owls": [OWLS]}
SUB_QUESTIONS = (
    SubQuestion("Who wrote Up?", "Ann Lee", ("Up author",), "p1"),
    SubQuestion("Where was Ann Lee born?", "Velm", ("Ann Lee birthplace", "Velm"), "p2"),
)

AUTHOR, BIRTHPLACE = "<think>the book</think><search>Up author</search>", "<search>Ann Lee birthplace</search>"
# Of each question its turns, and how the episode ends.
SCRIPTS = {
    "both hops": ([AUTHOR, BIRTHPLACE, "<answer>Velm</answer>"], StopReason.ANSWERED),
    "nothing found": (["<search>nothing</search>", "<answer>Up</answer>"], StopReason.ANSWERED),
    "a correction and a repeat": (["a</search>", AUTHOR, AUTHOR, "<answer>Velm</answer>"], StopReason.ANSWERED),
    "an end": ([AUTHOR, "so<|endoftext|>"], StopReason.END_OF_SEQUENCE),
    "no room": ([AUTHOR, BIRTHPLACE, "<search>owls</search>", AUTHOR], StopReason.CONTEXT_FULL),
    "no format": ([AUTHOR, "so " * 60, "so " * 60], StopReason.NO_VALID_ACTION),
}


def question_of(name):
    return Question(name, f"Where was the author of Up born ({name})?", ("Velm",), SUB_QUESTIONS, (UP, ANN), "musique")


QUESTIONS = [question_of(name) for name in SCRIPTS]


class ScriptedServer:
    """Plays a question's turns, a turn per request, as verl's client of its engines would hand them on."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.turns = {}

    async def generate(self, request_id, *, prompt_ids, sampling_params):
        assert sampling_params["stop"] == list(STOP_TAGS)
        if request_id not in self.turns:
            prompt = self.tokenizer.decode(prompt_ids)
            [name] = [name for name in SCRIPTS if f"({name})" in prompt]
            self.turns[request_id] = list(SCRIPTS[name][0])
        ids = self.tokenizer(self.turns[request_id].pop(0), add_special_tokens=False)["input_ids"]
        ids = ids[: sampling_params["max_tokens"]]
        return TokenOutput(
            token_ids=ids,
            log_probs=[LOGPROB] * len(ids),
            stop_reason="completed",
            extra_fields={"min_global_steps": 7, "max_global_steps": 7},
        )


def score_like(ids, positions, seed):
    """Return a made-up number for each token, the same whoever asks: what a network would say of it."""
    return torch.sin(0.7 * positions + 0.13 * ids + seed)


@pytest.fixture(scope="module")
def search_server(tmp_path_factory):
    """The address of a real /retrieve server in a process of its own."""
    canned = tmp_path_factory.mktemp("search") / "results.json"
    documents = {q: [{"id": p.id, "title": p.title, "text": p.text} for p in found] for q, found in RESULTS.items()}
    canned.write_text(json.dumps(documents))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("stepsearch"), "serve-search", "--port", str(port)]
    process = subprocess.Popen([*command, "search.engine_type=mock", f"search.mock.results={canned}"])
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not answers(f"{address}/healthz"):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the search server does not start"
            time.sleep(0.2)
        yield f"{address}/retrieve"
    finally:
        process.kill()
        process.wait()


def answers(address):
    try:
        return httpx.get(address).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "train.parquet"
    write_parquet(path, (question_to_row(q, place, "train") for place, q in enumerate(QUESTIONS)), ROW_SHAPE)
    return path


@pytest.fixture(scope="module")
def config(model_folder, search_server, data_file):
    overrides = [
        f"actor_rollout_ref.model.path={model_folder}",
        "actor_rollout_ref.rollout.name=vllm",
        "actor_rollout_ref.rollout.agent.num_workers=2",
        f"data.train_files={data_file}",
        f"data.max_prompt_length={PROMPT_LENGTH}",
        f"data.max_response_length={RESPONSE_LENGTH}",
        "algorithm.adv_estimator=gae",
        f"algorithm.gamma={GAMMA}",
        f"algorithm.lam={LAMBDA}",
        "algorithm.use_kl_in_reward=True",
        f"algorithm.kl_ctrl.kl_coef={KL}",
        "transfer_queue.enable=True",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        f"+stepsearch.search.remote.url={search_server}",
        f"+stepsearch.search.top_k={TOP_K}",
        *(f"+stepsearch.rollout.{key}={value}" for key, value in ROLLOUT.items()),
        *(f"+stepsearch.reward.{key}={value}" for key, value in REWARD.items()),
    ]
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        return compose("ppo_trainer", overrides=overrides)


@pytest.fixture(scope="module")
def queue(config):
    # Ray counts processor cores by what it is told; here nearly all of its processes wait.
    ray.init(num_cpus=8, include_dashboard=False, configure_logging=False)
    tq.init(config.transfer_queue)
    yield
    tq.close()
    ray.shutdown()


@pytest.fixture(scope="module")
def theirs(config, queue, chat_tokenizer, data_file):
    """What verl has of each question after its workers played it and its trainer estimated advantages."""
    dataset = RLHFDataset(str(data_file), chat_tokenizer.hf, config.data)
    rows = collate_fn([dataset[place] for place in range(len(dataset))])
    rows["uid"] = np.array([uuid.uuid4().hex for _ in QUESTIONS], dtype=object)
    batch = tensordict_utils.get_tensordict(rows)
    tensordict_utils.assign_non_tensor_data(batch, "global_steps", 7)
    tags = [{"is_prompt": True, "status": "pending", "global_steps": 7}] * len(QUESTIONS)
    tq.kv_batch_put(keys=list(batch["uid"]), partition_id="train", tags=tags)

    manager = AgentLoopManagerTQ.create(config=config, llm_client=ScriptedServer(chat_tokenizer.hf))
    manager.generate_sequences(batch)
    replay = ReplayBuffer("sync", {}, None, "drop", {}, poll_interval=0.2, train_batch_size=len(QUESTIONS))
    episodes, _ = replay.sample(global_steps=7, partition_id="train", batch_size=len(QUESTIONS))
    read_by_networks(episodes)
    trainer = SimpleNamespace(config=config, kl_ctrl_in_reward=core_algos.get_kl_controller(config.algorithm.kl_ctrl))
    PPOTrainer._compute_advantage(trainer, episodes, {})
    found = tq.kv_batch_get(keys=episodes.keys, partition_id="train")
    tensors = ("prompts", "responses", "response_mask", "rollout_log_probs", "rm_scores", "token_level_rewards")
    tensors += ("advantages", "returns", "values", "old_log_probs")
    return {
        found["id"][row]: {name: found[name][row] for name in tensors}
        | {"extra": found["extra_fields"][row], "turns": found["num_turns"][row], "tag": episodes.tags[row]}
        for row in range(len(QUESTIONS))
    }


def read_by_networks(episodes):
    """Put into the queue what policy, reference and critic would have said."""
    found = tq.kv_batch_get(keys=episodes.keys, partition_id="train", select_fields=["responses"])
    columns = {}
    for seed, name in enumerate(("values", "old_log_probs", "ref_log_prob")):
        said = [score_like(ids, torch.arange(len(ids)), seed) for ids in found["responses"].unbind()]
        columns[name] = torch.nested.as_nested_tensor(said, layout=torch.jagged)
    tq.kv_batch_put(keys=episodes.keys, partition_id="train", fields=TensorDict(columns, batch_size=len(episodes.keys)))


@pytest.fixture(scope="module")
def trajectories(chat_tokenizer, scripted_engine):
    """The same turns, played by our runner."""
    search = GuardedSearch(MockSearchEngine(RESULTS))
    played = {}
    for question in QUESTIONS:
        runner = RolloutRunner(
            scripted_engine(chat_tokenizer, {0: SCRIPTS[question.id][0]}, LOGPROB),
            chat_tokenizer,
            search,
            RolloutSettings(**ROLLOUT),
            max_length=len(chat_tokenizer.encode_prompt(question.question)) + RESPONSE_LENGTH,
            max_search_steps=REWARD["max_search_steps"],
            search_top_k=TOP_K,
        )
        [played[question.id]] = runner.run([question], [0])
    return played


@pytest.fixture(scope="module")
def ours(trajectories, chat_tokenizer):
    """Our trainer's numbers for each question."""
    calculator = StepSearchRewardCalculator(RewardSettings(**REWARD))
    rewards = [calculator.score(trajectory) for trajectory in trajectories.values()]
    scores = [token_level_scores(*pair) for pair in zip(trajectories.values(), rewards, strict=True)]
    batch = collate(list(trajectories.values()), scores, chat_tokenizer.pad_id)
    starts = torch.tensor([[len(trajectory.prompt_ids)] for trajectory in trajectories.values()])
    positions = torch.arange(batch.input_ids.shape[1])[None] - starts
    values, logprobs, ref_logprobs = (score_like(batch.input_ids, positions, seed) for seed in range(3))
    token_level_rewards = batch.token_level_scores - KL * k1(logprobs, ref_logprobs) * batch.response_mask
    estimates = masked_gae(token_level_rewards, values, batch.response_mask, gamma=GAMMA, gae_lambda=LAMBDA)
    advantages = whiten(estimates.advantages, batch.response_mask)
    rows = {}
    for row, (name, trajectory) in enumerate(trajectories.items()):
        start = len(trajectory.prompt_ids)
        response = slice(start, start + len(trajectory.response_ids))
        rows[name] = {
            "rm_scores": batch.token_level_scores[row, response],
            "token_level_rewards": token_level_rewards[row, response],
            "advantages": advantages[row, response],
            "returns": estimates.returns[row, response],
        }
    return rows


NAMES = pytest.mark.parametrize("name", SCRIPTS)


@NAMES
def test_the_episodes_are_the_same_to_the_token(theirs, trajectories, name):
    episode, trajectory = theirs[name], trajectories[name]
    assert trajectory.stop_reason is SCRIPTS[name][1]
    assert episode["prompts"].tolist() == list(trajectory.prompt_ids)
    assert episode["responses"].tolist() == list(trajectory.response_ids)
    assert episode["response_mask"].tolist() == list(trajectory.response_mask)
    assert episode["rollout_log_probs"].tolist() == list(trajectory.rollout_logprobs)
    assert 0 in trajectory.response_mask


@NAMES
def test_every_token_has_the_same_reward(theirs, ours, name):
    torch.testing.assert_close(theirs[name]["rm_scores"], ours[name]["rm_scores"], rtol=0, atol=TOLERANCE)


@NAMES
def test_sampled_tokens_have_the_same_advantages_and_returns(theirs, ours, name):
    sampled = theirs[name]["response_mask"].bool()
    for quantity in ("token_level_rewards", "advantages", "returns"):
        torch.testing.assert_close(
            theirs[name][quantity][sampled], ours[name][quantity][sampled], rtol=0, atol=TOLERANCE
        )


def test_rewards_stand_where_a_person_expects_them(theirs, trajectories):
    whole, trajectory = theirs["both hops"]["rm_scores"], trajectories["both hops"]
    first, second = (step.end_position for step in trajectory.steps)
    assert whole.nonzero()[:, 0].tolist() == [first, second, len(whole) - 1]
    # The answer is right, and both sub-questions were asked by a reference query.
    assert whole[-1] == pytest.approx(1 + REWARD["gamma_key"])
    # A search that found nothing is a step without a reward, and the answer was wrong.
    assert theirs["nothing found"]["rm_scores"].count_nonzero() == 0
    # Both documents of a repeated search had been there before.
    repeated = trajectories["a correction and a repeat"].steps[1].end_position
    assert theirs["a correction and a repeat"]["rm_scores"][repeated] == pytest.approx(-REWARD["step_scale"])


@NAMES
def test_no_reward_stands_on_an_observed_token(theirs, name):
    assert theirs[name]["rm_scores"][theirs[name]["response_mask"] == 0].count_nonzero() == 0


def test_figures_for_verls_validation(theirs):
    figures = theirs["both hops"]["extra"]["reward_extra_info"]
    assert figures == {"acc": 1.0, "f1": 1.0, "searches": 2.0, "format": 1.0, "golden_recall": 1.0}
    assert theirs["nothing found"]["extra"]["reward_extra_info"]["acc"] == 0.0
    # The prompt, two searches with their documents, the answer.
    assert theirs["both hops"]["turns"] == 6
    assert theirs["both hops"]["tag"]["max_global_steps"] == 7


def test_losses_agree_under_the_settings_that_the_docs_name(theirs):
    episode = theirs["a correction and a repeat"]
    mask, old = episode["response_mask"][None], episode["old_log_probs"][None]
    advantages, returns, values = (episode[name][None] for name in ("advantages", "returns", "values"))
    now = old + 0.4 * torch.cos(torch.arange(mask.shape[1]))
    clip = SimpleNamespace(clip_ratio=0.2, clip_ratio_low=0.2, clip_ratio_high=0.2, global_batch_info={})
    clip.get = {"clip_ratio_c": math.inf}.get
    their_policy, _ = core_algos.compute_policy_loss_vanilla(old, now, advantages, mask, "token-mean", clip)
    our_policy = clipped_policy_loss(now, old, advantages, mask, 0.2).loss / mask.sum()
    assert float(their_policy) == pytest.approx(float(our_policy), abs=TOLERANCE)
    their_value, _ = core_algos.compute_value_loss(values + 0.7, returns, values, mask, 0.5, "token-mean")
    our_value = clipped_value_loss(values + 0.7, values, returns, mask, 0.5).loss / mask.sum()
    assert float(their_value) == pytest.approx(float(our_value), abs=TOLERANCE)
