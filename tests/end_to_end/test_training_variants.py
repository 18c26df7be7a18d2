"""The trainer's other ways: critics, KL, refusals, failures and damaged checkpoints, on the toy world."""

import json
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_run import toy_config, toy_passages, toy_trainer

from stepsearch.errors import ConfigError, TrainingError
from stepsearch.models import StepSearchModel
from stepsearch.search import SearchEngine
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.training.credit import assign_credit
from stepsearch.training.metric_log import MetricLog
from stepsearch.training.steppo_trainer import StePPOTrainer
from stepsearch.types import Passage

SHORT = {"training.batch_size": 8, "training.minibatch_size": 4, "training.max_steps": 2, "evaluation.every_steps": 2}


def train(folder: Path, overrides: dict[str, Any] | None = None, resume: bool = False) -> list[dict[str, Any]]:
    trainer = toy_trainer(folder, toy_config({**SHORT, **(overrides or {})}))
    if resume:
        trainer.resume()
    trainer.train()
    return read_metrics(folder)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return what was logged of every step, without the evaluation before the first."""
    _, *lines = (folder / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_every_promised_metric_is_there(tmp_path: Path) -> None:
    metrics = train(tmp_path)
    promised = {
        "reward": "total answer information_gain redundancy_penalty search_key random_document_gain",
        "policy": "loss approx_kl clip_fraction entropy kl_to_reference ratio_max",
        "value": "loss clip_fraction explained_variance",
        "rollout": "searches_per_question golden_recall format_rate response_tokens tokens_per_second stop/answered "
        "retokenisation_drift",
        "search": "queries cache_hits failures queries_per_second",
        "optim": "learning_rate grad_norm tokens_per_second",
        "time": "rollout search reward reading advantages update",
        "eval": "em f1",
    }
    keys = {f"{group}/{name}" for group, names in promised.items() for name in names.split()}
    assert keys <= metrics[1].keys()
    # The first step trains the critic alone.
    assert {"policy/loss", "optim/learning_rate"}.isdisjoint(metrics[0])
    assert metrics[0]["value/loss"] > 0
    assert metrics[1]["rollout/logprob_gap"] < 1e-4
    assert 0 <= metrics[1]["rollout/mismatch_kl"] < 1e-6
    assert metrics[1]["rollout/mismatch_ratio_max"] == pytest.approx(1, abs=1e-3)
    # In the toy's tokenizer a text has one spelling.
    assert metrics[1]["rollout/retokenisation_drift"] == 0
    assert abs(metrics[0]["policy/kl_to_reference"]) < 1e-4


def test_log_probabilities_as_sampled_serve_as_well_as_those_read_again(tmp_path: Path) -> None:
    sampled, again = (
        train(
            tmp_path / mode,
            {"training.old_logprobs": mode, "training.value_warmup_steps": 0, "training.minibatch_size": 8},
        )
        for mode in ("rollout", "recompute")
    )
    # Read again, policy and reference are one network before the first update, and agree to the bit.
    assert again[0]["policy/kl_to_reference"] == 0.0
    for key in ("policy/loss", "policy/entropy", "value/loss", "optim/grad_norm", "reward/total"):
        assert sampled[0][key] == pytest.approx(again[0][key], abs=1e-4)
    assert sampled[0]["rollout/logprob_gap"] < 1e-4


def test_an_importance_cap_weighs_the_policy_loss(tmp_path: Path) -> None:
    settings = {"training.value_warmup_steps": 0, "training.minibatch_size": 8, "training.max_steps": 1}
    (plain,) = train(tmp_path / "plain", {**settings, "training.old_logprobs": "recompute"})
    # The engine is the trainer's own: all weights are 1, up to the cap.
    (weighted,) = train(tmp_path / "weighted", {**settings, "training.importance_cap": 2})
    (halved,) = train(tmp_path / "halved", {**settings, "training.importance_cap": 0.5, "training.update_epochs": 1})
    (once,) = train(tmp_path / "once", {**settings, "training.old_logprobs": "recompute", "training.update_epochs": 1})
    for key in ("policy/loss", "optim/grad_norm", "policy/entropy"):
        assert weighted[key] == pytest.approx(plain[key], abs=1e-4)
    assert halved["optim/grad_norm"] == pytest.approx(once["optim/grad_norm"] / 2, rel=1e-3)


def test_a_critic_on_the_policys_trunk(tmp_path: Path) -> None:
    first, second = train(tmp_path, {"training.critic": "shared"})
    assert first["value/mean"] == 0.0
    assert second["value/mean"] != 0.0
    # The value warm-up moves the head alone.
    assert first["policy/kl_to_reference"] == second["policy/kl_to_reference"] == 0.0
    names = StepSearchModel.load(tmp_path / "checkpoints" / "best_model").causal_lm.state_dict()
    assert not [name for name in names if "value_head" in name]


def test_a_group_of_episodes_instead_of_a_critic(tmp_path: Path) -> None:
    group = {
        "training.critic": "group",
        "training.kl_mode": "loss",
        "training.rollouts_per_question": 4,
        "training.batch_size": 2,
    }
    first, second = train(tmp_path, {**group, "training.value_warmup_steps": 0, "training.workers": 2})
    assert not [key for key in (*first, *second) if key.startswith("value/") or "critic" in key]
    assert first["optim/grad_norm"] > 0
    assert abs(second["policy/kl_to_reference"]) > abs(first["policy/kl_to_reference"])
    assert StepSearchModel.load(tmp_path / "checkpoints" / "best_model")


def test_mixed_precision_is_the_same_for_whoever_reads_an_episode(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, toy_config({**SHORT, "training.mixed_precision": "bf16"}))
    seen: list[bool] = []
    trainer._policy.causal_lm.lm_head.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    trainer.train()
    first, _ = read_metrics(tmp_path)
    # Before the first update policy and reference are one network; read alike, they agree to the bit.
    assert first["policy/kl_to_reference"] == 0.0
    # Its head is what sampling, training and evaluation call alike.
    assert seen
    assert all(seen)


@pytest.mark.parametrize("mode", ["loss", "none"])
def test_kl_as_a_loss_or_not_at_all(tmp_path: Path, mode: str) -> None:
    metrics = train(tmp_path, {"training.kl_mode": mode, "training.kl_coef": 0.1, "training.entropy_coef": 0.01})
    assert ("policy/kl_to_reference" in metrics[0]) == (mode == "loss")
    assert (tmp_path / "checkpoints" / "reference.pt").exists() == (mode == "loss")


def test_several_rollouts_per_question(tmp_path: Path) -> None:
    train(tmp_path, {"training.rollouts_per_question": 3, "training.batch_size": 2, "logging.trajectories": 6})
    lines = (tmp_path / "logs" / "trajectories.jsonl").read_text(encoding="utf-8").splitlines()
    first = [json.loads(line) for line in lines if json.loads(line)["step"] == 1]
    asked = [line["trajectory"]["question"]["id"] for line in first]
    assert len(asked) == 6
    assert asked[0] == asked[1] == asked[2] != asked[3] == asked[4] == asked[5]


def test_logged_episodes_say_what_was_known_of_each_token(tmp_path: Path) -> None:
    train(tmp_path)
    lines = (tmp_path / "logs" / "trajectories.jsonl").read_text(encoding="utf-8").splitlines()
    line = json.loads(lines[0])
    tokens, trajectory = line["tokens"], line["trajectory"]
    sampled = [bool(bit) for bit in trajectory["response_mask"]]
    assert "".join(tokens["texts"]).split() == trajectory["response_text"].split()
    assert [value is not None for value in tokens["values"]] == sampled
    assert [advantage is not None for advantage in tokens["advantages"]] == sampled
    # Before the first update the policy is its own reference: no KL in the rewards, which sum to the episode's.
    assert sum(tokens["token_level_rewards"]) == pytest.approx(line["reward"]["total"], abs=1e-4)


def poison(trainer: StePPOTrainer) -> None:
    """Let the critic's values be infinite from the next forward pass on."""
    critic = trainer._networks.value_model
    assert critic is not None
    torch.nn.init.constant_(critic.head.output.bias, torch.inf)


def test_an_update_that_is_not_finite_stops_before_the_weights_and_saves_the_batch(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, toy_config({**SHORT, "training.value_warmup_steps": 0}))
    poison(trainer)
    before = {name: x.clone() for name, x in trainer._policy.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step 1: the update is not finite \(loss nan"):
        trainer.train()
    assert all(torch.equal(x, before[name]) for name, x in trainer._policy.state_dict().items())
    (saved,) = (tmp_path / "failed_batch").iterdir()
    assert saved.name == "step-000001.pt"
    assert torch.load(saved, weights_only=True)["input_ids"].shape[0] == 4
    assert "the update is not finite" in (tmp_path / "logs" / "train.log").read_text(encoding="utf-8")


def test_a_critic_that_fails_alone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = toy_trainer(tmp_path, toy_config({**SHORT, "training.value_warmup_steps": 0}))

    def without_returns(*parts: Any) -> Any:
        batch = assign_credit(*parts)
        return replace(batch, returns=batch.returns * torch.nan)

    monkeypatch.setattr("stepsearch.training.steppo_trainer.assign_credit", without_returns)
    with pytest.raises(TrainingError, match=r"step 1: the update is not finite \(loss nan, critic grad norm nan\)"):
        trainer.train()


class FailingSearch(SearchEngine):
    """Answers no query about red, and the others as it should."""

    def __init__(self) -> None:
        self._engine = BM25SearchEngine.from_passages(toy_passages())

    def search(self, query: str, top_k: int = 3) -> Sequence[str | Passage]:
        if "red" in query:
            raise OSError("the server is down")
        return self._engine.search(query, top_k)


def test_a_search_that_fails_is_counted_and_the_run_goes_on(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, toy_config({**SHORT, "training.batch_size": 32}), FailingSearch())
    trainer.train()
    assert sum(step["search/failures"] for step in read_metrics(tmp_path)) > 0


def test_a_finished_run_can_be_made_longer(tmp_path: Path) -> None:
    train(tmp_path)
    metrics = train(tmp_path, {"training.max_steps": 3}, resume=True)
    assert [step["step"] for step in metrics] == [1, 2, 3]


def test_a_run_in_two_parts_is_a_run_in_one_with_a_shared_critic_too(tmp_path: Path) -> None:
    shared = {"training.critic": "shared", "training.kl_mode": "loss", "training.rollouts_per_question": 2}
    whole = train(tmp_path / "whole", {**shared, "training.max_steps": 3})
    train(tmp_path / "parts", shared)
    parts = train(tmp_path / "parts", {**shared, "training.max_steps": 3}, resume=True)
    kept = [key for key in whole[2] if key.split("/")[0] in ("policy", "value", "reward", "optim", "search")]
    exact = [key for key in kept if not key.endswith("per_second")]
    assert {key: parts[2][key] for key in exact} == {key: whole[2][key] for key in exact}


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    whole = train(tmp_path, {"logging.checkpoint_every": 1})
    state = tmp_path / "checkpoints" / "step-000002" / "state.pt"
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    again = train(tmp_path, resume=True)
    assert again[1]["policy/loss"] == whole[1]["policy/loss"]


def test_resuming_under_settings_that_matter_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(ConfigError, match=r"training\.gae_lambda=0\.95, not 0\.5"):
        train(tmp_path, {"training.gae_lambda": 0.5}, resume=True)


def test_a_new_run_in_a_used_folder_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(ConfigError, match="--resume"):
        train(tmp_path)


def test_resuming_where_nothing_was_is_starting(tmp_path: Path) -> None:
    assert len(train(tmp_path, resume=True)) == 2


@pytest.mark.parametrize("key", ["rollout.temperature=0", "rollout.top_p=0.5", "rollout.top_k=2"])
def test_other_sampling_is_refused_at_start(tmp_path: Path, key: str) -> None:
    name, _, value = key.partition("=")
    with pytest.raises(ConfigError, match=name):
        toy_trainer(tmp_path, toy_config({**SHORT, name: value}))


def test_a_collapse_ends_the_run_with_a_checkpoint_and_a_model(tmp_path: Path) -> None:
    signs = {"training.stop_entropy": 99, "training.alarm_searches": 9, "training.value_warmup_steps": 0}
    trainer = toy_trainer(tmp_path, toy_config({**SHORT, **signs}))
    summary = trainer.train()
    assert (summary.steps, summary.interrupted) == (1, False)
    log = (tmp_path / "logs" / "train.log").read_text(encoding="utf-8")
    assert "WARNING rollout/searches_per_question is " in log
    assert "WARNING ended after step 1 of 2: the entropy is " in log
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} >= {"step-000001", "best_model"}


def test_what_is_kept_in_main_memory_changes_nothing(tmp_path: Path) -> None:
    runs = [train(tmp_path / place, {"training.offload": place, "training.max_steps": 3}) for place in ("none", "all")]
    for kept, moved in zip(*runs, strict=True):
        exact = [key for key in kept if key.split("/")[0] in ("policy", "value", "reward", "optim")]
        exact = [key for key in exact if not key.endswith("per_second")]
        assert {key: moved[key] for key in exact} == {key: kept[key] for key in exact}
    # What a resumed run finds, it may keep elsewhere.
    again = train(tmp_path / "all", {"training.offload": "optimizer", "training.max_steps": 4}, resume=True)
    assert len(again) == 4


LORA = {"lora.rank": 4, "training.learning_rate": 1e-2, "training.critic_learning_rate": 1e-2}


@pytest.mark.parametrize("critic", ["separate", "shared", "group"])
def test_adapters_learn_and_the_trunk_stays(tmp_path: Path, critic: str) -> None:
    alone = {"training.rollouts_per_question": 2, "training.value_warmup_steps": 0, "training.kl_mode": "loss"}
    group = alone if critic == "group" else {}
    trainer = toy_trainer(tmp_path, toy_config({**SHORT, **LORA, **group, "training.critic": critic}))
    policy = trainer._policy
    frozen = {name: p.clone() for name, p in policy.causal_lm.named_parameters() if ".lora_" not in name}
    trainer.train()
    now = dict(policy.causal_lm.named_parameters())
    assert all(torch.equal(weights, now[name]) for name, weights in frozen.items())
    assert any(p.any() for name, p in now.items() if "lora_B.actor" in name)
    last = read_metrics(tmp_path)[-1]
    # The sampled log-probabilities are the adapted policy's own, and the reference is another by now.
    assert last["rollout/logprob_gap"] < 1e-4 or critic == "shared"
    assert not (tmp_path / "checkpoints" / "reference.pt").exists()
    assert StepSearchModel.load(tmp_path / "checkpoints" / "best_model").adapters is None


def test_a_run_with_adapters_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    settings = {**LORA, "logging.checkpoint_every": 1, "training.max_steps": 3}
    whole = train(tmp_path / "whole", settings)
    train(tmp_path / "parts", {**settings, "training.max_steps": 2})
    # The schedule knows of 3 steps in one run and of 2 in the other; the toy run's rates do not depend on that.
    parts = train(tmp_path / "parts", settings, resume=True)
    assert [m["value/loss"] for m in parts] == [m["value/loss"] for m in whole]
    first, second = ((tmp_path / run / "checkpoints/best_model/model.safetensors") for run in ("whole", "parts"))
    assert first.read_bytes() == second.read_bytes()
    state = torch.load(tmp_path / "whole/checkpoints/step-000003/state.pt", weights_only=True)
    assert sum(weights.numel() for weights in state["policy"].values()) < 10_000


def test_an_interruption_in_the_last_step_is_told_and_loses_nothing(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, toy_config({**SHORT, "training.value_warmup_steps": 0}))
    take_step = trainer.train_step

    def interrupted(log: MetricLog) -> dict[str, float]:
        metrics = take_step(log)
        if trainer._is_last:
            signal.raise_signal(signal.SIGINT)
        return metrics

    trainer.train_step = interrupted
    summary = trainer.train()
    assert (summary.steps, summary.total_steps, summary.interrupted) == (2, 2, True)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} >= {"step-000002", "best_model"}
