"""The update: a batch in, optimiser steps on policy and critic, diagnostics out."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from stepsearch.config import TrainingSettings
from stepsearch.models.adapters import CRITIC, using
from stepsearch.models.step_search_model import TokenScores
from stepsearch.models.tensor_shares import whole_tensor
from stepsearch.side_by_side import side_by_side
from stepsearch.training.batch import PPOBatch, shared_microbatches
from stepsearch.training.kl import k3
from stepsearch.training.losses import clipped_policy_loss, clipped_value_loss, entropy_sum
from stepsearch.training.mismatch import measure_mismatch
from stepsearch.training.networks import Learner, Networks
from stepsearch.training.processes import Processes
from stepsearch.training.schedules import minibatch_rows

# What is logged, by what was summed, over what.
MEANS = {
    "policy/loss": ("policy_loss", "tokens"),
    "policy/clip_fraction": ("policy_clipped", "tokens"),
    "policy/approx_kl": ("approx_kl", "tokens"),
    "policy/entropy": ("entropy", "tokens_before_learning"),
    "rollout/logprob_gap": ("logprob_gap", "tokens_before_learning"),
    "rollout/mismatch_kl": ("mismatch_kl", "tokens_before_learning"),
    "value/loss": ("value_loss", "tokens"),
    "value/clip_fraction": ("value_clipped", "tokens"),
    "optim/grad_norm": ("grad_norm", "optimiser_steps"),
    "optim/critic_grad_norm": ("critic_grad_norm", "optimiser_steps"),
}


class NonFiniteUpdate(Exception):
    """A loss or gradient is not finite; its minibatch has not touched the weights."""

    def __init__(self, minibatch: PPOBatch, what: str) -> None:
        super().__init__(what)
        self.minibatch = minibatch


@dataclass(slots=True)
class _Totals:
    """Sums over an update, kept on the device until it is over."""

    sums: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    ratio_max: list[Tensor] = field(default_factory=list[Tensor])
    mismatch_ratio_max: list[Tensor] = field(default_factory=list[Tensor])

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()

    @property
    def nothing_learned(self) -> bool:
        """Whether no optimiser step has been taken yet."""
        return "optimiser_steps" not in self.sums


@dataclass(frozen=True, slots=True)
class _Part:
    """What learns by itself.

    Attributes:
        module: as `accelerate` prepared it.
        loss: summed over the sampled tokens of a micro-batch.
        learners: its optimisers, by the name that the norm of their gradients is logged under.
        idle: learners whose parameters are in the module and do not learn now.
        adapter: makes the block in which its adapter is on: what a backward pass computes again has to find it on.
    """

    module: nn.Module
    loss: Callable[[PPOBatch, _Totals], Tensor]
    learners: Mapping[str, Learner]
    idle: tuple[Learner, ...] = ()
    adapter: Callable[[], AbstractContextManager[None]] = nullcontext

    def forget_gradients(self) -> None:
        for learner in (*self.learners.values(), *self.idle):
            learner.forget_gradients()


class PPOUpdate:
    """Clipped policy and value updates over several passes.

    A critic of its own and the policy learn independently of each other, with several workers at the same time. A
    critic on the policy's trunk learns with it, from the sum of both losses.

    Several processes each pass a share of every minibatch through the networks; the optimiser steps are those of one.

    Args:
        networks: policy and critic with their optimisers.
        accelerator: runs the backward passes, and clips.
        settings: clips, coefficients, epochs and batch sizes.
        temperature: at which the batch was sampled.
        seed: orders the minibatches, with the step and the epoch.
        workers: threads.
        policy_is_read: the old log-probabilities are the trainer's own; otherwise the first minibatch also measures the
            policy's entropy and how far the sampled log-probabilities are off.
        processes: all of which have the same batch; default: this one alone.
    """

    def __init__(
        self,
        networks: Networks,
        accelerator: Accelerator,
        settings: TrainingSettings,
        *,
        temperature: float,
        seed: int,
        workers: int = 1,
        policy_is_read: bool = True,
        processes: Processes | None = None,
    ) -> None:
        self._networks = networks
        self._accelerator = accelerator
        self._settings = settings
        self._temperature = temperature
        self._seed = seed
        self._workers = workers
        self._policy_is_read = policy_is_read
        self._processes = processes or Processes()
        # What trained the policy before may have left gradients in it.
        for part in self._parts(warming=False):
            part.forget_gradients()

    def run(self, batch: PPOBatch, step: int, total_steps: int) -> dict[str, float]:
        """Update on `batch`; return losses per sampled token, clip fractions, gradient norms, rates and the speed.

        The first `value_warmup_steps` steps train the critic alone.

        Raises:
            NonFiniteUpdate: a loss or a gradient is not finite.
        """
        settings, networks = self._settings, self._networks
        warming = step < settings.value_warmup_steps
        rates: dict[str, float] = {}
        if networks.critic_learner is not None:
            rates["optim/critic_learning_rate"] = networks.critic_learner.set_rate(step, total_steps)
        if not warming:
            rates["optim/learning_rate"] = networks.policy_learner.set_rate(step, total_steps)
        passes = settings.value_warmup_epochs if warming else settings.update_epochs
        minibatches = [
            rows
            for epoch in range(passes)
            for rows in minibatch_rows(len(batch), settings.minibatch_size, self._seed, step, epoch)
        ]
        started = time.perf_counter()
        learning = [partial(self._learn, part, batch, minibatches) for part in self._parts(warming)]
        totals = side_by_side(learning, self._workers)
        speed = passes * sum(batch.lengths) / (time.perf_counter() - started)
        diagnostics = {key: value for part in totals for key, value in self._diagnostics(part).items()}
        return {**diagnostics, **rates, "optim/tokens_per_second": speed}

    def _parts(self, warming: bool) -> list[_Part]:
        """Return what learns independently of each other: while the critic warms up, it alone."""
        policy, value_model = self._networks.policy, self._networks.value_model
        for_policy = {"grad_norm": self._networks.policy_learner}
        if self._networks.critic_learner is None:
            return [_Part(policy, self._policy_loss, for_policy)]
        for_critic = {"critic_grad_norm": self._networks.critic_learner}
        if value_model is not None:
            adapters = self._accelerator.unwrap_model(value_model).adapters
            critic = _Part(value_model, self._value_loss, for_critic, adapter=partial(using, adapters, CRITIC))
            return [critic] if warming else [_Part(policy, self._policy_loss, for_policy), critic]
        if warming:
            return [_Part(policy, self._value_loss, for_critic, idle=(self._networks.policy_learner,))]
        return [_Part(policy, self._joint_loss, {**for_policy, **for_critic})]

    def _learn(self, part: _Part, batch: PPOBatch, minibatches: list[list[int]]) -> _Totals:
        """Take an optimiser step per minibatch; return the sums of what was seen."""
        totals = _Totals()
        with part.adapter():
            for rows in minibatches:
                self._optimise(part, batch.select(rows), totals)
        return totals

    def _optimise(self, part: _Part, minibatch: PPOBatch, totals: _Totals) -> None:
        """Take one optimiser step on the mean loss per sampled token of the minibatch, of which this is a share."""
        among, sampled = self._processes, minibatch.response_mask.sum(dim=1)
        # Data parallelism averages gradients over the processes, each of which sums over its share of the tokens.
        weight = among.count / sampled.sum().clamp(min=1)
        loss_total = torch.zeros((), device=sampled.device)
        groups = shared_microbatches(minibatch.lengths, self._settings.microbatch_tokens, among.rank, among.count)
        for index, rows in enumerate(groups):
            with self._gradient_sync(part.module, index == len(groups) - 1):
                loss = part.loss(minibatch.part(rows), totals) * weight
                self._accelerator.backward(loss)
            loss_total += loss.detach()
        self._take_step(part, minibatch, among.sum(loss_total) / among.count, totals)
        own_rows = [row for rows in groups for row in rows]
        totals.add(tokens=sampled[own_rows].sum(), optimiser_steps=torch.ones((), device=sampled.device))

    def _take_step(self, part: _Part, minibatch: PPOBatch, loss: Tensor, totals: _Totals) -> None:
        """Clip, check and apply the gradients; those of what does not learn now are dropped."""
        norms = {name: self._clip(learner) for name, learner in part.learners.items()}
        _check_finite(part, minibatch, {"loss": loss, **norms})
        for learner in part.learners.values():
            learner.optimizer.step()
        part.forget_gradients()
        totals.add(**norms)

    def _value_loss(self, batch: PPOBatch, totals: _Totals) -> Tensor:
        value_model = self._networks.value_model
        if value_model is not None:
            return self._clipped_value_loss(value_model(batch.input_ids, batch.response_mask), batch, totals)
        return self._clipped_value_loss(cast(Tensor, self._score(batch, False).values), batch, totals)

    def _policy_loss(self, batch: PPOBatch, totals: _Totals) -> Tensor:
        with_entropy = self._settings.entropy_coef != 0 or self._watches(totals)
        return self._clipped_policy_loss(self._score(batch, with_entropy), batch, totals)

    def _joint_loss(self, batch: PPOBatch, totals: _Totals) -> Tensor:
        scores = self._score(batch, self._settings.entropy_coef != 0)
        value_loss = self._clipped_value_loss(cast(Tensor, scores.values), batch, totals)
        return value_loss + self._clipped_policy_loss(scores, batch, totals)

    def _watches(self, totals: _Totals) -> bool:
        """Whether the policy is still the one that sampled, and nobody has read it yet."""
        return totals.nothing_learned and not self._policy_is_read

    def _score(self, batch: PPOBatch, with_entropy: bool) -> TokenScores:
        return self._networks.policy(batch.input_ids, batch.response_mask, self._temperature, with_entropy)

    def _clipped_value_loss(self, values: Tensor, batch: PPOBatch, totals: _Totals) -> Tensor:
        clip = self._settings.value_clip_range
        old_values, returns = cast(Tensor, batch.old_values), cast(Tensor, batch.returns)
        value = clipped_value_loss(values, old_values, returns, batch.response_mask, clip)
        totals.add(value_loss=value.loss, value_clipped=value.clipped)
        return self._settings.value_coef * value.loss

    def _clipped_policy_loss(self, scores: TokenScores, batch: PPOBatch, totals: _Totals) -> Tensor:
        settings, mask = self._settings, batch.response_mask
        policy = clipped_policy_loss(scores.logprobs, batch.old_logprobs, batch.advantages, mask, settings.clip_range)
        loss = policy.loss
        if settings.entropy_coef != 0 and scores.entropy is not None:
            loss = loss - settings.entropy_coef * entropy_sum(scores.entropy, mask)
        if settings.kl_mode == "loss" and batch.ref_logprobs is not None:
            loss = loss + settings.kl_coef * (k3(scores.logprobs, batch.ref_logprobs) * mask).sum()
        totals.add(policy_loss=loss, policy_clipped=policy.clipped, approx_kl=policy.approx_kl)
        totals.ratio_max.append(policy.ratio_max.detach())
        if self._watches(totals) and scores.entropy is not None:
            mismatch = measure_mismatch(scores.logprobs.detach(), batch.rollout_logprobs, mask)
            totals.add(tokens_before_learning=mask.sum(), entropy=scores.entropy.sum())
            totals.add(logprob_gap=mismatch.gap, mismatch_kl=mismatch.kl)
            totals.mismatch_ratio_max.append(mismatch.ratio_max)
        return loss

    @contextmanager
    def _gradient_sync(self, module: nn.Module, last: bool) -> Generator[None]:
        """Let processes exchange gradients after the last micro-batch only."""
        with ExitStack() as stack:
            if not last:
                stack.enter_context(self._accelerator.no_sync(module))
            yield

    def _clip(self, learner: Learner) -> Tensor:
        norm = cast(Tensor, self._accelerator.clip_grad_norm_(learner.parameters, self._settings.max_grad_norm))
        return torch.as_tensor(whole_tensor(norm), device=self._accelerator.device)

    def _diagnostics(self, totals: _Totals) -> dict[str, float]:
        """Return what was summed as means."""
        values = self._processes.sum(torch.stack([x.float() for x in totals.sums.values()])).tolist()
        sums = dict(zip(totals.sums, values, strict=True))
        metrics = {key: sums[name] / max(sums[count], 1.0) for key, (name, count) in MEANS.items() if name in sums}
        if totals.ratio_max:
            metrics["policy/ratio_max"] = float(self._processes.max(torch.stack(totals.ratio_max).max()))
        if totals.mismatch_ratio_max:
            largest = self._processes.max(torch.stack(totals.mismatch_ratio_max).max())
            metrics["rollout/mismatch_ratio_max"] = float(largest)
        return metrics


def _check_finite(part: _Part, minibatch: PPOBatch, checked: Mapping[str, Tensor]) -> None:
    if not bool(torch.stack(list(checked.values())).isfinite().all()):
        part.forget_gradients()
        text = ", ".join(f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in checked.items())
        raise NonFiniteUpdate(minibatch, text)
