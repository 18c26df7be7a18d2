"""Supervised learning of whole demonstrations, by any causal LM, in full or through adapters.

What counts are the tokens that the policy is to write itself: not the prompt, not what a search found, and no
end of sequence, since an episode ends with its closing tag.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import torch
from accelerate import Accelerator

from stepsearch.config import Config
from stepsearch.errors import ConfigError, DataError, TrainingError
from stepsearch.models.adapters import add_adapters
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.training.batch import microbatches
from stepsearch.training.demonstration_batches import DemonstrationBatch, Example, pad_examples
from stepsearch.training.health import collapse
from stepsearch.training.metric_log import MetricLog
from stepsearch.training.networks import Learner, prepare_reference, start_accelerator
from stepsearch.training.offload import is_offloaded, keep_state_in_main_memory, lent
from stepsearch.training.preflight import check_weights

_EXCERPT = 12
SECTION = "warm_start.imitation"
LOSS = "imitation/loss"
OnUpdate = Callable[[int, int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class ImitationSummary:
    """How it went.

    Attributes:
        updates: how many were taken.
        planned: of how many.
        collapse: why it ended earlier, if so.
        before: what was measured before the first update, and the loss of its batch.
        after: what was measured last, and the loss of the last update's batch.
    """

    updates: int
    planned: int
    collapse: str | None
    before: Mapping[str, float]
    after: Mapping[str, float]


def refuse_end_of_sequence(examples: Sequence[Example], tokenizer: ModelTokenizer) -> None:
    """Refuse to teach what would end an episode anywhere.

    Raises:
        DataError: a written token ends a sequence; its demonstration is named.
    """
    for example in examples:
        for place, (token, wrote) in enumerate(zip(example.ids, example.written, strict=True)):
            if wrote and token in tokenizer.eos_ids:
                shown = slice(max(0, place - _EXCERPT), place + 1)
                excerpt = tokenizer.decode(list(compress(example.ids[shown], example.written[shown])))
                raise DataError(
                    f"{example.where}: a turn writes a token that ends a sequence ({' '.join(excerpt.split())!r}): "
                    "leave it out, an episode ends with its closing tag"
                )


def split_examples(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Return what is learned, and what is held out of it: that share, in random order."""
    order = random.Random(f"held out {seed}").sample(examples, len(examples))
    count = int(share * len(examples))
    return order[count:], order[:count]


class Imitation:
    """Trains a policy, in place, to write what demonstrations write.

    Args:
        policy: learns; through adapters if `lora.rank` says so.
        examples: demonstrations in tokens.
        config: all settings; those of `warm_start.imitation`, and how `training` uses the machine.

    Raises:
        ConfigError: the settings cannot be trained with.
        DataError: a demonstration ends a sequence.
        TrainingError: there is nothing to learn.
    """

    def __init__(self, policy: StepSearchModel, examples: Sequence[Example], config: Config) -> None:
        self._settings, self._training, self._seed = config.warm_start.imitation, config.training, config.seed
        if not examples:
            raise TrainingError("there are no demonstrations to learn from")
        refuse_end_of_sequence(examples, policy.tokenizer)
        self._learned, self._held_out = split_examples(examples, self._settings.held_out, self._seed)
        if config.lora.rank:
            policy.adapters = add_adapters(policy.causal_lm, config.lora, config.seed, with_critic=False)
        check_weights(policy.causal_lm)
        self._policy = policy
        self._accelerator = _one_process(self._training.mixed_precision, policy.causal_lm.device)
        self._reference = self._loaded_policy(config)
        if self._training.gradient_checkpointing:
            policy.enable_gradient_checkpointing()
        rate, rise = self._settings.learning_rate, self._settings.warmup_ratio
        learner = Learner.of(policy.causal_lm, rate, rise, self._training.weight_decay)
        if is_offloaded(self._training, "optimizer"):
            keep_state_in_main_memory(learner.optimizer)
        self._learner = learner.prepared(self._accelerator)
        self._prepared = self._accelerator.prepare(policy)
        # What trained the policy before may have left gradients in it.
        self._learner.forget_gradients()

    def run(self, log: MetricLog, on_update: OnUpdate | None = None) -> ImitationSummary:
        """Learn all epochs, or until the policy has collapsed.

        Args:
            log: told of every update, and of what was measured before the first.
            on_update: told of every update too: how many are taken, of how many, and its metrics.

        Raises:
            TrainingError: the loss or a gradient is not finite.
        """
        batches = self._batches()
        start = measured = self._measure()
        log.write(0, len(batches), start)
        reason, losses = None, list[float]()
        for number, batch in enumerate(batches, 1):
            metrics = self._update(number, len(batches), batch)
            losses.append(metrics[LOSS])
            if number % self._settings.measure_every == 0 or number == len(batches):
                measured = self._measure()
                metrics |= measured
            log.write(number, len(batches), metrics)
            if on_update is not None:
                on_update(number, len(batches), metrics)
            reason = collapse(metrics, self._settings, SECTION)
            if reason is not None:
                log.warn(f"ended after update {number} of {len(batches)}: {reason}")
                break
        before, after = {LOSS: losses[0], **start}, {LOSS: losses[-1], **measured}
        return ImitationSummary(len(losses), len(batches), reason, before, after)

    def _loaded_policy(self, config: Config) -> StepSearchModel | None:
        """Return what reads as the policy did when it was loaded; None where that would take memory for nothing."""
        if self._policy.adapters is not None:
            return self._policy
        if self._settings.stop_kl is None:
            return None
        reference = prepare_reference(self._policy, config, self._accelerator)
        return reference if isinstance(reference, StepSearchModel) else None

    def _batches(self) -> list[list[Example]]:
        """Return the demonstrations of every update: each epoch in an order of its own."""
        size, batches = self._settings.batch_size, list[list[Example]]()
        for epoch in range(self._settings.epochs):
            order = random.Random(f"imitation {self._seed} {epoch}").sample(self._learned, len(self._learned))
            batches += [order[start : start + size] for start in range(0, len(order), size)]
        return batches

    def _update(self, number: int, updates: int, examples: Sequence[Example]) -> dict[str, float]:
        """Take an optimiser step on the mean cross-entropy of the written tokens."""
        # After a rise, linearly down to the end.
        rate = self._learner.set_rate(number - 1, updates, decay=(updates - number + 1) / updates)
        tokens = sum(sum(example.written) for example in examples)
        total = 0.0
        for batch in self._microbatches(examples):
            logprobs = self._prepared(batch.input_ids, batch.written, 1.0, False).logprobs
            loss = -logprobs.sum() / tokens
            self._accelerator.backward(loss)
            total += loss.item()
        norm = float(self._accelerator.clip_grad_norm_(self._learner.parameters, self._training.max_grad_norm) or 0.0)
        if not math.isfinite(total + norm):
            raise TrainingError(
                f"update {number}: loss {total:.3g} or gradient norm {norm:.3g} is not finite: lower "
                f"{SECTION}.learning_rate"
            )
        self._learner.optimizer.step()
        self._learner.forget_gradients()
        return {LOSS: total, "optim/learning_rate": rate, "optim/grad_norm": norm}

    @torch.no_grad()
    def _measure(self) -> dict[str, float]:
        """Return loss, entropy and exact KL to the policy as it was loaded, per written token that was held out.

        Without any held out, they are those of a batch that is learned.
        """
        examples = self._held_out or self._learned[: self._settings.batch_size]
        sums = dict.fromkeys(("imitation/held_out_loss", "policy/entropy", "policy/kl_to_reference"), 0.0)
        is_visitor = is_offloaded(self._training, "reference") and self._reference is not self._policy
        visitor = self._reference if is_visitor else None
        with self._accelerator.autocast(), lent(visitor, self._accelerator.device):
            for batch in self._microbatches(examples):
                scores = self._policy(batch.input_ids, batch.written)
                sums["imitation/held_out_loss"] -= float(scores.logprobs.sum())
                sums["policy/entropy"] += float(scores.entropy.sum())
                sums["policy/kl_to_reference"] += self._kl(batch)
        if self._reference is None:
            del sums["policy/kl_to_reference"]
        if not self._held_out:
            del sums["imitation/held_out_loss"]
        tokens = sum(sum(example.written) for example in examples)
        return {name: total / tokens for name, total in sums.items()}

    def _kl(self, batch: DemonstrationBatch) -> float:
        """Return KL(policy || policy as loaded), summed over the written tokens; 0 without what to compare with."""
        if self._reference is None:
            return 0.0
        now = self._policy.log_distributions(batch.input_ids, batch.written, as_loaded=False)
        loaded = self._reference.log_distributions(batch.input_ids, batch.written, as_loaded=True)
        return sum(float((p.exp() * (p - q)).sum()) for p, q in zip(now, loaded, strict=True))

    def _microbatches(self, examples: Sequence[Example]) -> list[DemonstrationBatch]:
        """Return the examples as padded batches within the token budget, on the accelerator."""
        groups = microbatches([len(example.ids) for example in examples], self._training.microbatch_tokens)
        padded = [pad_examples([examples[row] for row in rows], self._policy.tokenizer.pad_id) for rows in groups]
        return [batch.to(self._accelerator.device) for batch in padded]


def _one_process(mixed_precision: str, device: torch.device) -> Accelerator:
    """Return the accelerator of the only process.

    Raises:
        ConfigError: there are several, or the device lacks that precision.
    """
    accelerator = start_accelerator(mixed_precision, device)
    if accelerator.num_processes > 1:
        raise ConfigError("the warm start runs in one process: start it without accelerate launch or torchrun")
    return accelerator
