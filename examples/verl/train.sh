#!/usr/bin/env bash
# StePPO on verl with the paper's settings for Qwen2.5-3B (config/paper-3b.yaml), on one machine or several.
# docs/verl.md has the steps before it, and says which of verl's keys stands for which setting of StepSearch.
#
#   bash examples/verl/train.sh                                          # one machine with 8 GPUs
#   GPUS=4 bash examples/verl/train.sh data.train_batch_size=64          # anything of verl's can be overridden
#   NODES=2 bash examples/verl/train.sh                                  # on the head, after node.sh ran on both
#
# --cfg job shows the whole configuration and starts nothing.
set -euo pipefail
model=${MODEL:-Qwen/Qwen2.5-3B}
train_file=${TRAIN_FILE:-data/train.parquet}
dev_file=${DEV_FILE:-data/dev.parquet}
nodes=${NODES:-1}

settings=(
  # Data: what `stepsearch export --format verl` wrote. Its column agent_name has the plug-in play the episodes.
  data.train_files="$train_file"
  data.val_files="$dev_file"
  data.train_batch_size=256                       # training.batch_size
  data.max_prompt_length=512                      # with the next one model.max_length
  data.max_response_length=3584                   # observed tokens included
  actor_rollout_ref.rollout.max_model_len=4096

  # Advantages: GAE over sampled tokens, which is what carries a reward on the token that earned it.
  algorithm.adv_estimator=gae
  algorithm.gamma=1.0                             # training.gamma
  algorithm.lam=1.0                               # training.gae_lambda
  algorithm.use_kl_in_reward=True                 # training.kl_mode: reward
  algorithm.kl_penalty=kl
  algorithm.kl_ctrl.type=fixed
  algorithm.kl_ctrl.kl_coef=0.001                 # training.kl_coef

  # Policy.
  actor_rollout_ref.model.path="$model"
  actor_rollout_ref.model.enable_gradient_checkpointing=True
  actor_rollout_ref.actor.optim.lr=7e-7           # training.learning_rate
  actor_rollout_ref.actor.optim.lr_warmup_steps_ratio=0.285
  actor_rollout_ref.actor.optim.weight_decay=0.0
  actor_rollout_ref.actor.optim.clip_grad=1.0     # training.max_grad_norm
  actor_rollout_ref.actor.ppo_mini_batch_size=64  # training.minibatch_size
  actor_rollout_ref.actor.ppo_epochs=1            # training.update_epochs
  actor_rollout_ref.actor.shuffle=True
  actor_rollout_ref.actor.clip_ratio=0.2          # training.clip_range; without the next two it has no effect
  actor_rollout_ref.actor.clip_ratio_low=0.2
  actor_rollout_ref.actor.clip_ratio_high=0.2
  actor_rollout_ref.actor.clip_ratio_c=1e9        # verl's second clip, which PPO does not have: never reached
  actor_rollout_ref.actor.loss_agg_mode=token-mean
  actor_rollout_ref.actor.entropy_coeff=0.0
  actor_rollout_ref.actor.use_kl_loss=False       # True with use_kl_in_reward=False is training.kl_mode: loss
  actor_rollout_ref.actor.use_dynamic_bsz=True
  actor_rollout_ref.actor.ppo_max_token_len_per_gpu=16384

  # Critic: a network of its own, from the policy.
  critic.model.path="$model"
  critic.model.enable_gradient_checkpointing=True
  critic.optim.lr=7e-6                            # training.critic_learning_rate
  critic.optim.lr_warmup_steps_ratio=0.015
  critic.optim.weight_decay=0.0
  critic.optim.clip_grad=1.0
  critic.cliprange_value=0.5                      # training.value_clip_range
  critic.ppo_max_token_len_per_gpu=32768
  trainer.critic_warmup=0                         # training.value_warmup_steps + 1, if there are any

  # Generation. The plug-in needs an engine that stops at texts: vLLM does.
  actor_rollout_ref.rollout.name=vllm
  actor_rollout_ref.rollout.tensor_model_parallel_size=1
  actor_rollout_ref.rollout.gpu_memory_utilization=0.5
  actor_rollout_ref.rollout.n=1                   # training.rollouts_per_question
  actor_rollout_ref.rollout.temperature=1.0       # rollout.temperature
  actor_rollout_ref.rollout.calculate_log_probs=True
  actor_rollout_ref.rollout.agent.num_workers=$((8 * nodes))

  # The episode, its search and its rewards: StepSearch's own keys.
  +stepsearch.search.remote.url="http://127.0.0.1:${SEARCH_PORT:-8000}/retrieve"
  +stepsearch.search.top_k=3
  +stepsearch.rollout.max_turn_tokens=500
  +stepsearch.rollout.max_observation_tokens=500
  +stepsearch.reward.gamma_key=0.1
  +stepsearch.reward.step_scale=1.0
  +stepsearch.reward.redundancy_threshold=1.0
  +stepsearch.reward.max_search_steps=5

  # The run.
  trainer.nnodes="$nodes"
  trainer.n_gpus_per_node="${GPUS:-8}"
  trainer.total_epochs=100                        # total_training_steps decides
  trainer.total_training_steps=500                # training.max_steps
  trainer.test_freq=20                            # evaluation.every_steps
  trainer.save_freq=20
  trainer.logger='[console,tensorboard]'
  trainer.project_name=stepsearch
  trainer.experiment_name=steppo
)
if ((nodes > 1)); then
  settings+=(+ray_kwargs.ray_init.address=auto)
fi
exec "${PYTHON:-python3}" -m verl.trainer.main_ppo "${settings[@]}" "$@"
