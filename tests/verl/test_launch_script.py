"""The launch script's settings as verl reads them, beside those of config/paper-3b.yaml that they stand for."""

import os
import subprocess
from pathlib import Path

import pytest

verl = pytest.importorskip("verl", reason="verl is not installed here; make test-verl sets up an environment for it")

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from stepsearch.config import load_config
from stepsearch.integrations.verl.settings import check_response_length, episode_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """Returns verl's configuration under which the script, in an environment, starts it."""
    shown = tmp_path_factory.mktemp("bin") / "python"
    shown.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    shown.chmod(0o755)

    def launch(*arguments, **environment):
        command = ["bash", ROOT / "examples" / "verl" / "train.sh", *arguments]
        variables = {**os.environ, "PYTHON": str(shown), **environment}
        printed = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.splitlines()
        assert printed[:2] == ["-m", "verl.trainer.main_ppo"]
        with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
            return compose("ppo_trainer", overrides=printed[2:])

    return launch


@pytest.fixture(scope="module")
def config(launched):
    return launched()


@pytest.mark.parametrize(("nodes", "address"), [("1", None), ("2", "auto")])
def test_verl_takes_the_settings(launched, model_folder, nodes, address):
    config = launched("trainer.save_freq=7", NODES=nodes, GPUS="4", MODEL=str(model_folder))
    assert need_critic(config)
    assert need_reference_policy(config)
    assert config.trainer.use_v1
    assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (int(nodes), 4)
    assert config.ray_kwargs.ray_init.get("address") == address
    assert config.trainer.save_freq == 7
    validate_config(config, use_reference_policy=True, use_critic=True)


def test_they_are_the_papers(config):
    paper = load_config(ROOT / "config" / "paper-3b.yaml")
    training, actor, critic, rollout = (
        paper.training,
        config.actor_rollout_ref.actor,
        config.critic,
        config.actor_rollout_ref.rollout,
    )
    assert config.actor_rollout_ref.model.path == critic.model.path == paper.model.name
    assert config.data.max_prompt_length + config.data.max_response_length == paper.model.max_length
    assert rollout.max_model_len == paper.model.max_length
    assert config.data.train_batch_size == training.batch_size
    assert (rollout.n, rollout.temperature) == (training.rollouts_per_question, paper.rollout.temperature)
    assert actor.ppo_mini_batch_size == critic.ppo_mini_batch_size == training.minibatch_size
    assert actor.ppo_epochs == critic.ppo_epochs == training.update_epochs
    assert (actor.optim.lr, critic.optim.lr) == (training.learning_rate, training.critic_learning_rate)
    assert actor.optim.lr_warmup_steps_ratio == training.warmup_ratio
    assert critic.optim.lr_warmup_steps_ratio == training.critic_warmup_ratio
    assert actor.optim.weight_decay == critic.optim.weight_decay == training.weight_decay
    assert actor.optim.clip_grad == critic.optim.clip_grad == training.max_grad_norm
    assert actor.clip_ratio == actor.clip_ratio_low == actor.clip_ratio_high == training.clip_range
    assert critic.cliprange_value == training.value_clip_range
    assert actor.entropy_coeff == training.entropy_coef
    assert (config.algorithm.gamma, config.algorithm.lam) == (training.gamma, training.gae_lambda)
    assert config.algorithm.use_kl_in_reward == (training.kl_mode == "reward")
    assert config.algorithm.kl_ctrl.kl_coef == training.kl_coef
    assert config.trainer.total_training_steps == training.max_steps
    assert config.trainer.critic_warmup == training.value_warmup_steps == 0


def test_episodes_follow_the_paper(config):
    paper = load_config(ROOT / "config" / "paper-3b.yaml")
    episode = episode_config(OmegaConf.to_container(config.stepsearch, resolve=True))
    assert episode.reward == paper.reward
    assert episode.search.top_k == paper.search.top_k
    assert episode.rollout == paper.rollout
    check_response_length(config.data.max_response_length, episode.rollout)
