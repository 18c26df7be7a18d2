"""Learning from demonstrations: only written tokens count, measurements are exact, and a collapse ends it."""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from toy_run import LEADERS, toy_config, toy_policy
from transformers import PreTrainedModel

from stepsearch.errors import DataError, TrainingError
from stepsearch.models import StepSearchModel
from stepsearch.preparation.demonstrations import Demonstration, Observed, Written
from stepsearch.protocol import Answer, Search, render_turn
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.training.demonstration_batches import DemonstrationEncoder, Example
from stepsearch.training.imitation import Imitation, ImitationSummary, split_examples
from stepsearch.training.metric_log import MetricLog
from stepsearch.types import Passage

KEY = "warm_start.imitation."
SHORT = {KEY + "batch_size": 4, KEY + "epochs": 3, KEY + "learning_rate": 1e-2, KEY + "measure_every": 2}


@pytest.fixture(scope="module")
def toy() -> StepSearchModel:
    """A policy that knows the form of an episode, and holds the gradients that it was taught with."""
    return toy_policy(0)


@pytest.fixture
def policy(toy: StepSearchModel) -> StepSearchModel:
    return copy.deepcopy(toy)


def examples(policy: StepSearchModel, colours: Mapping[str, str] = LEADERS) -> list[Example]:
    """Return the right episode of each colour."""
    shown = [
        Demonstration(
            f"who leads {colour}",
            (
                Written(render_turn("", Search(f"{colour} leads"))),
                Observed((Passage.from_text(f"{leader} leads {colour}"),)),
                Written(render_turn("", Answer(leader))),
            ),
        )
        for colour, leader in colours.items()
    ]
    return DemonstrationEncoder(policy.tokenizer, ObservationBuilder(policy.tokenizer, 16, 8), 64).encode(shown)


def imitate(
    policy: StepSearchModel, folder: Path, overrides: Mapping[str, object] | None = None
) -> tuple[ImitationSummary, list[dict[str, float]]]:
    """Return how it ended and what was logged, update 0 first."""
    config = toy_config({**SHORT, "training.microbatch_tokens": 60, **(overrides or {})})
    with MetricLog(folder / "logs", step=0, tensorboard=False) as log:
        summary = Imitation(policy, examples(policy), config).run(log)
    return summary, [json.loads(line) for line in (folder / "logs" / "metrics.jsonl").read_text().splitlines()]


def written_losses(causal_lm: PreTrainedModel, shown: list[Example]) -> torch.Tensor:
    """Return minus the log-probability of each written token, from the model's own logits."""
    losses = []
    for example in shown:
        ids, mask = torch.tensor([example.ids]), torch.tensor(example.written[1:], dtype=torch.bool)
        logprobs = torch.log_softmax(causal_lm(ids).logits[0, :-1], -1)
        losses.append(-logprobs[torch.arange(len(mask)), ids[0, 1:]][mask])
    return torch.cat(losses)


def test_the_loss_is_the_mean_over_written_tokens(policy: StepSearchModel, tmp_path: Path) -> None:
    before = copy.deepcopy(policy.causal_lm)
    one_batch = {KEY + "batch_size": 6, KEY + "epochs": 1, KEY + "held_out": 0}
    _, (_, update) = imitate(policy, tmp_path, one_batch)
    assert update["imitation/loss"] == pytest.approx(written_losses(before, examples(policy)).mean().item(), abs=1e-5)


def test_one_step_goes_where_the_gradient_of_that_loss_points(policy: StepSearchModel, tmp_path: Path) -> None:
    """AdamW's first step is the rate times the gradient's sign: prompts and results have no part in it."""
    twin = copy.deepcopy(policy.causal_lm)
    written_losses(twin, examples(policy)).mean().backward()
    weight = twin.model.layers[0].mlp.up_proj.weight
    one_batch = {KEY + "batch_size": 6, KEY + "epochs": 1, KEY + "held_out": 0, KEY + "warmup_ratio": 0}
    imitate(policy, tmp_path, one_batch)
    step = policy.causal_lm.model.layers[0].mlp.up_proj.weight - weight
    clear = weight.grad.abs() > 1e-4
    assert clear.sum() > 100
    torch.testing.assert_close(step[clear], -1e-2 * weight.grad[clear].sign(), rtol=0, atol=1e-4)


def test_what_is_measured_is_exact(policy: StepSearchModel, tmp_path: Path) -> None:
    before = copy.deepcopy(policy.causal_lm)
    _, lines = imitate(policy, tmp_path, {KEY + "held_out": 0.4, KEY + "stop_kl": 1e3})
    _, held_out = split_examples(examples(policy), 0.4, seed=0)
    assert len(held_out) == 2
    assert lines[0]["policy/kl_to_reference"] == 0
    kl, entropy = [], []
    for example in held_out:
        ids, mask = torch.tensor([example.ids]), torch.tensor(example.written[1:], dtype=torch.bool)
        now, loaded = (
            torch.distributions.Categorical(logits=model(ids).logits[0, :-1][mask])
            for model in (policy.causal_lm, before)
        )
        kl.append(torch.distributions.kl_divergence(now, loaded))
        entropy.append(now.entropy())
    last = lines[-1]
    assert last["policy/kl_to_reference"] == pytest.approx(torch.cat(kl).mean().item(), abs=1e-4)
    assert last["policy/kl_to_reference"] > 0.01
    assert last["policy/entropy"] == pytest.approx(torch.cat(entropy).mean().item(), abs=1e-5)
    losses = written_losses(policy.causal_lm, held_out)
    assert last["imitation/held_out_loss"] == pytest.approx(losses.mean().item(), abs=1e-5)


def test_rates_rise_then_fall_and_measurements_come_when_asked_for(policy: StepSearchModel, tmp_path: Path) -> None:
    # Six demonstrations, of which one is held out: two updates an epoch.
    settings = {KEY + "warmup_ratio": 0.5, KEY + "held_out": 0.2, KEY + "measure_every": 4}
    summary, (start, *updates) = imitate(policy, tmp_path, settings)
    assert (summary.updates, summary.planned, summary.collapse) == (6, 6, None)
    rates = [update["optim/learning_rate"] for update in updates]
    assert rates == pytest.approx([1e-2 * x for x in (1 / 3, 2 / 3 * 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6)])
    measured = [line["step"] for line in (start, *updates) if "imitation/held_out_loss" in line]
    assert measured == [0, 4, 6]
    # Without a threshold for it, full fine-tuning keeps no second model to measure a KL to.
    assert "policy/kl_to_reference" not in start
    assert updates[-1]["imitation/loss"] < updates[0]["imitation/loss"]
    assert {"step": 0, **summary.before} == start | {"imitation/loss": updates[0]["imitation/loss"]}
    assert summary.after == {name: updates[-1][name] for name in summary.before}


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ({KEY + "stop_kl": 1e-3}, r"the KL to the reference is .*, above warm_start\.imitation\.stop_kl=0\.001"),
        ({KEY + "stop_entropy": 99}, r"the entropy is .*, below warm_start\.imitation\.stop_entropy=99"),
    ],
)
def test_a_collapse_ends_it_early(policy: StepSearchModel, tmp_path: Path, limit: dict[str, float], why: str) -> None:
    summary, _ = imitate(policy, tmp_path, limit)
    assert summary.updates == 2
    assert re.fullmatch(why, summary.collapse or "")
    assert "WARNING ended after update 2 of " in (tmp_path / "logs" / "train.log").read_text(encoding="utf-8")


def test_adapters_learn_and_their_kl_costs_no_second_model(policy: StepSearchModel, tmp_path: Path) -> None:
    trunk = {name: weights.clone() for name, weights in policy.causal_lm.named_parameters()}
    _, lines = imitate(policy, tmp_path, {"lora.rank": 4})
    now = {name.replace(".base_layer", ""): weights for name, weights in policy.causal_lm.named_parameters()}
    assert all(torch.equal(weights, now[name]) for name, weights in trunk.items())
    assert not any(".critic." in name for name in now)
    assert lines[0]["policy/kl_to_reference"] == 0
    assert lines[-1]["policy/kl_to_reference"] > 0
    policy.save(tmp_path / "model", {})
    merged = StepSearchModel.load(tmp_path / "model").causal_lm
    expected = written_losses(policy.causal_lm, examples(policy))
    torch.testing.assert_close(written_losses(merged, examples(policy)), expected, rtol=0, atol=1e-5)


def test_equal_seeds_give_equal_weights(toy: StepSearchModel, tmp_path: Path) -> None:
    one, two, other = (copy.deepcopy(toy) for _ in range(3))
    imitate(one, tmp_path / "one")
    imitate(two, tmp_path / "two", {"training.offload": "all", KEY + "stop_kl": 1e3})
    imitate(other, tmp_path / "other", {"seed": 1})
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_end_of_a_sequence_is_never_taught(policy: StepSearchModel) -> None:
    config = toy_config(SHORT)
    ending = Example([5, 6, min(policy.tokenizer.eos_ids), 7], [0, 0, 1, 1], "shown.jsonl, line 3")
    read_only = Example(ending.ids, [0, 0, 0, 1])
    Imitation(policy, [read_only], config)
    with pytest.raises(DataError, match=r"^shown\.jsonl, line 3: a turn writes a token that ends a sequence \(.*<eos>"):
        Imitation(policy, [ending], config)
    with pytest.raises(TrainingError, match="no demonstrations to learn from"):
        Imitation(policy, [], config)


def test_a_loss_that_is_not_finite_leaves_the_weights(policy: StepSearchModel, tmp_path: Path) -> None:
    with torch.no_grad():
        policy.causal_lm.model.norm.weight[0] = torch.inf
    before = [parameter.clone() for parameter in policy.parameters()]
    with pytest.raises(TrainingError, match=r"update 1: loss nan .* lower warm_start\.imitation\.learning_rate"):
        imitate(policy, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
