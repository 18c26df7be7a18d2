"""The seconds that a step takes on this machine, from a short trial with the run's own networks, engine and update."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from stepsearch.config import IN_PROCESS, Config, TrainingSettings
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.rollout_copy import RolloutCopy, wants_copy
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.rollout.generation import Sampling
from stepsearch.training.batch import PPOBatch
from stepsearch.training.networks import Networks, give_adapters, prepare_networks, prepare_reference, start_accelerator
from stepsearch.training.planning.quantities import EpisodeTokens, Seconds, episodes_of
from stepsearch.training.ppo_update import PPOUpdate
from stepsearch.training.preflight import check_weights
from stepsearch.training.reading import read_batch, reads_policy, reads_reference

T = TypeVar("T")
SAMPLED_TOKENS = 16
"""Tokens that each episode of the trial samples."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A trial.

    Attributes:
        seconds: of a whole step, scaled up from the trial.
        episodes: that were sampled at once.
        update_episodes: that were read and learned from, one micro-batch.
        rollout_bytes: the most memory that tensors took while sampling; None on a CPU, which does not count it.
        update_bytes: the same while reading and learning.
    """

    seconds: Seconds
    episodes: int
    update_episodes: int
    rollout_bytes: int | None
    update_bytes: int | None


def measure_step(policy: StepSearchModel, config: Config, tokens: EpisodeTokens) -> Measurement:
    """Return how long a step takes with a policy, whose weights a trial update changes.

    Args:
        policy: of the run's shape; what it says does not matter.
        config: the run's settings.
        tokens: of an episode.

    Raises:
        ConfigError: the settings cannot be trained with.
    """
    give_adapters(policy, config)
    check_weights(policy.causal_lm)
    device = policy.causal_lm.device
    accelerator = start_accelerator(config.training.mixed_precision, device)
    reference = prepare_reference(policy, config, accelerator) if reads_reference(config.training) else None
    networks = prepare_networks(policy, config, accelerator)
    episodes = episodes_of(config)
    rows = min(config.rollout.slots, episodes)
    # As in a run, a copy to sample from stays while the networks learn.
    copy = RolloutCopy(policy) if wants_copy(device.type, config) else None
    sampled = policy.causal_lm if copy is None else copy.causal_lm
    with accelerator.autocast():
        rollout, rollout_bytes = _with_peak(
            device, lambda: _episode_seconds(sampled, policy.tokenizer, config.model.max_length, rows, tokens)
        )
    trained = max(1, min(episodes, config.training.microbatch_tokens // tokens.total))
    batch = _batch(trained, tokens, policy, device)
    (reading, learning), update_bytes = _with_peak(
        device, lambda: _learning_seconds(batch, networks, reference, accelerator, config)
    )
    dev = config.evaluation.dev_questions / config.evaluation.every_steps
    seconds = Seconds(
        rollout=rollout * episodes,
        reading=reading * episodes / trained,
        update=learning * episodes / trained,
        evaluation=rollout * dev,
        measured=True,
    )
    return Measurement(seconds, rows, trained, rollout_bytes, update_bytes)


def trial_notes(config: Config) -> list[str]:
    """Return what a trial with these settings does not show."""
    engine = config.rollout.engine
    if engine == IN_PROCESS:
        return []
    return [f"rollout.engine={engine}: the trial sampled with {IN_PROCESS}, and says nothing of vLLM's speed or memory"]


def _episode_seconds(
    causal_lm: PreTrainedModel, tokenizer: ModelTokenizer, max_length: int, rows: int, tokens: EpisodeTokens
) -> float:
    """Return the time of one of `rows` episodes at once: half of it is read, then a few tokens are sampled.

    Half an episode is the context that a sampled token has on average.
    """
    engine = InProcessEngine(causal_lm, tokenizer, slots=rows, max_length=max_length)
    device, context = causal_lm.device, max(1, min(tokens.total // 2, max_length - SAMPLED_TOKENS - 2))
    vocabulary = causal_lm.config.get_text_config().vocab_size
    prompts = torch.randint(vocabulary, (rows, context), generator=torch.Generator().manual_seed(0)).tolist()
    contexts = {row: list(prompt) for row, prompt in enumerate(prompts)}

    def sample(count: int) -> int:
        """Sample up to `count` tokens for each row and return how many there were in all."""
        for row, ids in contexts.items():
            engine.submit(row, ids, Sampling(count, seed=row))
        sampled = 0
        while engine.active:
            for segment in engine.step():
                sampled += len(segment.token_ids)
                # The next segment reads one more token, as if it had been found.
                contexts[segment.request_id] += [*segment.token_ids, 0]
        return sampled

    reading = _seconds(device, lambda: sample(1))
    started = time.perf_counter()
    sampled = sample(SAMPLED_TOKENS)
    _wait(device)
    per_token = (time.perf_counter() - started) / sampled
    return (tokens.prompt + tokens.observed) * reading / (rows * context) + tokens.sampled * per_token


def _learning_seconds(
    batch: PPOBatch, networks: Networks, reference: nn.Module | None, accelerator: Accelerator, config: Config
) -> tuple[float, float]:
    """Return the time of reading a batch, and that of learning from it."""
    settings, policy_is_read = config.training, reads_policy(config.training, config.rollout.engine)
    update = PPOUpdate(
        networks,
        accelerator,
        _one_minibatch(settings),
        temperature=config.rollout.temperature,
        seed=config.seed,
        policy_is_read=policy_is_read,
    )

    def read() -> object:
        return read_batch(
            batch,
            networks.policy if policy_is_read else None,
            reference,
            networks.value_model,
            temperature=config.rollout.temperature,
            token_budget=settings.microbatch_tokens,
        )

    def learn() -> object:
        return update.run(batch, settings.value_warmup_steps, 1)

    # The first update also makes the optimisers' states.
    learn()
    return _seconds(accelerator.device, read), _seconds(accelerator.device, learn)


def _batch(rows: int, tokens: EpisodeTokens, policy: StepSearchModel, device: torch.device) -> PPOBatch:
    """Return episodes of random tokens, of which the last ones are sampled ones."""
    shape = (rows, tokens.total)
    generator = torch.Generator().manual_seed(0)
    vocabulary = policy.causal_lm.config.get_text_config().vocab_size
    mask = torch.zeros(shape, dtype=torch.long)
    mask[:, tokens.total - tokens.sampled :] = 1
    zeros = torch.zeros(shape)
    batch = PPOBatch(
        input_ids=torch.randint(vocabulary, shape, generator=generator),
        attention_mask=torch.ones(shape, dtype=torch.long),
        response_mask=mask,
        rollout_logprobs=zeros,
        token_level_scores=zeros,
        token_level_rewards=zeros,
        old_logprobs=zeros,
        ref_logprobs=zeros,
        old_values=zeros,
        advantages=torch.randn(shape, generator=generator) * mask,
        returns=zeros,
    )
    return batch.to(device)


def _one_minibatch(settings: TrainingSettings) -> TrainingSettings:
    return settings.model_copy(update={"minibatch_size": None})


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _with_peak(device: torch.device, work: Callable[[], T]) -> tuple[T, int | None]:
    """Return what `work` returns, and the most memory that tensors took meanwhile."""
    if device.type != "cuda":
        return work(), None
    torch.cuda.reset_peak_memory_stats(device)
    return work(), torch.cuda.max_memory_allocated(device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
