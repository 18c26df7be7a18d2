"""The update: a batch in, optimiser steps on policy and critic, diagnostics out."""

import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor

from stepsearch.config import TrainingSettings
from stepsearch.models.step_search_model import TokenScores
from stepsearch.training.batch import PPOBatch, microbatches
from stepsearch.training.kl import k3
from stepsearch.training.losses import clipped_policy_loss, clipped_value_loss, entropy_sum
from stepsearch.training.networks import Learner, Networks
from stepsearch.training.schedules import minibatch_rows


class NonFiniteUpdate(Exception):
    """A loss or gradient is not finite; the optimiser has not touched the weights."""

    def __init__(self, minibatch: PPOBatch, what: str) -> None:
        super().__init__(what)
        self.minibatch = minibatch


@dataclass(slots=True)
class _Totals:
    """Sums over an update, kept on the device until it is over."""

    sums: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    ratio_max: list[Tensor] = field(default_factory=list[Tensor])

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()


class PPOUpdate:
    """Clipped policy and value updates over several passes.

    Args:
        networks: policy and critic with their optimisers.
        accelerator: runs the backward passes and sums over processes.
        settings: clips, coefficients, epochs and batch sizes.
        temperature: at which the batch was sampled.
        seed: orders the minibatches, with the step and the epoch.
    """

    def __init__(
        self,
        networks: Networks,
        accelerator: Accelerator,
        settings: TrainingSettings,
        *,
        temperature: float,
        seed: int,
    ) -> None:
        self._networks = networks
        self._accelerator = accelerator
        self._settings = settings
        self._temperature = temperature
        self._seed = seed
        # What trained the policy before may have left gradients in it.
        self._forget_gradients()

    def run(self, batch: PPOBatch, step: int, total_steps: int) -> dict[str, float]:
        """Update on `batch`; return losses per sampled token, clip fractions, gradient norms, rates and the speed.

        The first `value_warmup_steps` steps train the critic alone.

        Raises:
            NonFiniteUpdate: a loss or a gradient is not finite.
        """
        settings, networks = self._settings, self._networks
        warming = step < settings.value_warmup_steps
        rates = {"optim/critic_learning_rate": networks.critic_learner.set_rate(step, total_steps)}
        if not warming:
            rates["optim/learning_rate"] = networks.policy_learner.set_rate(step, total_steps)
        passes = settings.value_warmup_epochs if warming else settings.update_epochs
        totals, started = _Totals(), time.perf_counter()
        for epoch in range(passes):
            for rows in minibatch_rows(len(batch), settings.minibatch_size, self._seed, step, epoch):
                self._optimise(batch.select(rows), warming, totals)
        diagnostics = self._diagnostics(totals, warming)
        speed = passes * sum(batch.lengths) / (time.perf_counter() - started)
        return {**diagnostics, **rates, "optim/tokens_per_second": speed}

    def sum_over_processes(self, x: Tensor) -> Tensor:
        """Return `x` summed over the training processes."""
        return cast(Tensor, self._accelerator.reduce(x, reduction="sum"))

    def _optimise(self, minibatch: PPOBatch, warming: bool, totals: _Totals) -> None:
        """Take one optimiser step on the mean loss per sampled token of the minibatch, over all processes."""
        sampled = minibatch.response_mask.sum()
        tokens = self.sum_over_processes(sampled).clamp(min=1)
        # Data parallelism averages gradients over processes, while the token count is already their sum.
        weight = self._accelerator.num_processes / tokens
        loss_total = torch.zeros((), device=sampled.device)
        groups = microbatches(minibatch.lengths, self._settings.microbatch_tokens)
        for index, rows in enumerate(groups):
            with self._gradient_sync(index == len(groups) - 1):
                loss = self._loss(minibatch.select(rows), warming, totals) * weight
                self._accelerator.backward(loss)
            loss_total += loss.detach()
        self._take_step(minibatch, loss_total, warming, totals)
        totals.add(tokens=sampled, optimiser_steps=torch.ones((), device=sampled.device))

    def _take_step(self, minibatch: PPOBatch, loss: Tensor, warming: bool, totals: _Totals) -> None:
        """Clip, check and apply the gradients; during the value warm-up the policy's are dropped."""
        norms = {"critic_grad_norm": self._clip(self._networks.critic_learner)}
        if not warming:
            norms["grad_norm"] = self._clip(self._networks.policy_learner)
        self._check_finite(minibatch, loss, norms)
        self._networks.critic_learner.optimizer.step()
        if not warming:
            self._networks.policy_learner.optimizer.step()
        self._forget_gradients()
        totals.add(**norms)

    def _loss(self, batch: PPOBatch, warming: bool, totals: _Totals) -> Tensor:
        """Return the summed loss of a micro-batch."""
        settings, networks, mask = self._settings, self._networks, batch.response_mask
        scores: TokenScores | None = None
        if not warming or networks.value_model is None:
            scores = networks.policy(batch.input_ids, mask, self._temperature, settings.entropy_coef != 0)
        if networks.value_model is not None:
            values = networks.value_model(batch.input_ids, mask)
        else:
            values = cast(Tensor, cast(TokenScores, scores).values)
        value = clipped_value_loss(values, batch.old_values, batch.returns, mask, settings.value_clip_range)
        totals.add(value_loss=value.loss, value_clipped=value.clipped)
        loss = settings.value_coef * value.loss
        return loss if warming or scores is None else loss + self._policy_loss(batch, scores, totals)

    def _policy_loss(self, batch: PPOBatch, scores: TokenScores, totals: _Totals) -> Tensor:
        settings, mask = self._settings, batch.response_mask
        policy = clipped_policy_loss(scores.logprobs, batch.old_logprobs, batch.advantages, mask, settings.clip_range)
        loss = policy.loss
        if scores.entropy is not None:
            loss = loss - settings.entropy_coef * entropy_sum(scores.entropy, mask)
        if settings.kl_mode == "loss" and batch.ref_logprobs is not None:
            loss = loss + settings.kl_coef * (k3(scores.logprobs, batch.ref_logprobs) * mask).sum()
        totals.add(policy_loss=loss, policy_clipped=policy.clipped, approx_kl=policy.approx_kl)
        totals.ratio_max.append(policy.ratio_max.detach())
        return loss

    @contextmanager
    def _gradient_sync(self, last: bool) -> Generator[None]:
        """Let processes exchange gradients after the last micro-batch only."""
        with ExitStack() as stack:
            for module in (self._networks.policy, self._networks.value_model):
                if module is not None and not last:
                    stack.enter_context(self._accelerator.no_sync(module))
            yield

    def _clip(self, learner: Learner) -> Tensor:
        norm = self._accelerator.clip_grad_norm_(learner.parameters, self._settings.max_grad_norm)
        return torch.as_tensor(norm, device=self._accelerator.device)

    def _check_finite(self, minibatch: PPOBatch, loss: Tensor, norms: Mapping[str, Tensor]) -> None:
        checked = {"loss": loss, **norms}
        if not bool(torch.stack(list(checked.values())).isfinite().all()):
            self._forget_gradients()
            text = ", ".join(f"{name.replace('_', ' ')} {float(value):.3g}" for name, value in checked.items())
            raise NonFiniteUpdate(minibatch, text)

    def _forget_gradients(self) -> None:
        self._networks.policy_learner.optimizer.zero_grad(set_to_none=True)
        self._networks.critic_learner.optimizer.zero_grad(set_to_none=True)

    def _diagnostics(self, totals: _Totals, warming: bool) -> dict[str, float]:
        values = self.sum_over_processes(torch.stack(list(totals.sums.values()))).tolist()
        sums = dict(zip(totals.sums, values, strict=True))
        tokens, steps = max(sums["tokens"], 1.0), sums["optimiser_steps"]
        metrics = {
            "value/loss": sums["value_loss"] / tokens,
            "value/clip_fraction": sums["value_clipped"] / tokens,
            "optim/critic_grad_norm": sums["critic_grad_norm"] / steps,
        }
        if warming:
            return metrics
        return metrics | {
            "policy/loss": sums["policy_loss"] / tokens,
            "policy/clip_fraction": sums["policy_clipped"] / tokens,
            "policy/approx_kl": sums["approx_kl"] / tokens,
            "policy/ratio_max": float(torch.stack(totals.ratio_max).max()),
            "optim/grad_norm": sums["grad_norm"] / steps,
        }
