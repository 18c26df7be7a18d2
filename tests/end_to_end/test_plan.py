"""`stepsearch plan`, offline: on every recipe, as tables and as JSON, and with a trial."""

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen2Config

from stepsearch.cli.arguments import DEVICES as NAMES
from stepsearch.cli.main import USER_ERROR, main
from stepsearch.config import load_config
from stepsearch.training.planning.devices import DEVICES

RECIPES = Path(__file__).parents[2] / "config"


def plan(*arguments: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    assert main(["plan", "--json", *arguments]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def shape_folder(tmp_path: Path) -> Path:
    """A folder with a `config.json` alone."""
    config = Qwen2Config(
        vocab_size=2048,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        dtype="float32",
    )
    config.save_pretrained(tmp_path)
    return tmp_path


def small(folder: Path) -> list[str]:
    """Return overrides that make a step of a few thousand tokens."""
    return [
        f"model.name={folder}",
        "model.max_length=256",
        "rollout.max_turn_tokens=32",
        "rollout.max_observation_tokens=64",
        "rollout.max_passage_tokens=32",
        "training.batch_size=4",
        "training.microbatch_tokens=512",
        "training.threads=1",
        "evaluation.dev_questions=8",
    ]


def test_every_device_can_be_named() -> None:
    assert tuple(DEVICES) == NAMES


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_is_planned_by_the_command_that_it_names(
    recipe: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = RECIPES / f"{recipe}.yaml"
    named = re.search(r"stepsearch plan --config config/\S+ ?(.*)", path.read_text(encoding="utf-8"))
    flags = (
        shlex.split(named[1]) if named else ["--devices", "16", "training.parallel=fsdp"] if recipe == "config" else []
    )
    planned = plan("--config", str(path), *flags, capsys=capsys)
    config = load_config(path)
    assert planned["refusal"] is None
    assert planned["episodes"] == config.training.batch_size * config.training.rollouts_per_question
    assert planned["steps"] == config.training.max_steps
    assert planned["peak"]["bytes"] < (DEVICES[planned["assumed"]["device"]["name"]].memory_bytes or 2**40)


def test_adapters_are_planned_without_peft(
    shape_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    planned = plan("--prompt-tokens", "20", *small(shape_folder), "lora.rank=2", capsys=capsys)
    # Rank 2 times inputs and outputs of q, k, v, o, gate, up and down, in two layers.
    assert planned["parameters"]["adapter"] == 2 * 2 * ((64 + 64) + 2 * (64 + 32) + (64 + 64) + 3 * (64 + 128))
    assert 'lora.rank=2: peft is not installed here (pip install "stepsearch[lora]")' in planned["notes"]
    monkeypatch.undo()
    there = plan("--prompt-tokens", "20", *small(shape_folder), "lora.rank=2", capsys=capsys)
    assert "peft" not in " ".join(there["notes"])


def test_qwen_2_5_3b_in_full_does_not_fit_one_h100(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", str(RECIPES / "paper-3b.yaml"), "--device", "h100"]) == USER_ERROR
    shown = capsys.readouterr()
    assert re.search(r"│ policy +│ +3\.09 B │", shown.out)
    assert re.search(r"│ always: optimiser states +│ +46\.0 GiB │", shown.out)
    assert re.match(
        r"error: \d+\.\d GiB are needed during the update, and h100 has 79\.0 GiB: it fits with ", shown.err
    )
    assert "lora.rank=32 model.dtype=bfloat16" in shown.err
    assert "training.parallel=fsdp --devices 2" in shown.err


def test_the_user_says_what_the_device_can(shape_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--device",
        "h100",
        "--memory-gib",
        "100",
        "--teraflops",
        "2",
        "--gigabytes-per-second",
        "3",
        "--prompt-tokens",
        "9",
    ]
    assumed = plan(*flags, *small(shape_folder), capsys=capsys)["assumed"]
    assert assumed["device"] == {
        "name": "h100",
        "memory_bytes": 100 * 2**30,
        "bfloat16_flops": 2e12,
        "float32_flops": 2e12,
        "bandwidth": 3e9,
    }


def test_a_cpu_has_this_machines_memory(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ["--config", str(RECIPES / "tiny.yaml"), "--device", "cpu"]
    peak = plan(*tiny, capsys=capsys)["peak"]["bytes"]
    pages = peak // 4096
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": pages}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    planned = plan(*tiny, capsys=capsys, code=USER_ERROR)
    assert planned["assumed"]["device"]["memory_bytes"] == 4096 * pages < peak
    assert "and cpu has " in planned["refusal"]
    # Several processes share it, and more of them would not make it larger.
    shared = plan(*tiny, "--devices", "2", "training.workers=1", capsys=capsys, code=USER_ERROR)
    assert shared["assumed"]["device"]["memory_bytes"] == 4096 * pages // 2
    assert "--devices" not in planned["refusal"] + shared["refusal"]
    # What the user says goes first.
    assert plan(*tiny, "--memory-gib", "64", capsys=capsys)["assumed"]["device"]["memory_bytes"] == 64 * 2**30
    monkeypatch.delattr(os, "sysconf")
    assert plan(*tiny, capsys=capsys)["assumed"]["device"]["memory_bytes"] is None


def test_a_run_of_months_and_an_uncounted_warm_start_are_notes(
    shape_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--config", str(RECIPES / "tiny.yaml")]
    warm_start = "the warm start of the tiny policy is not counted"
    few = plan(*tiny, capsys=capsys)["notes"]
    assert few[-1] == warm_start
    slow = plan(*tiny, "training.max_steps=10000000", capsys=capsys)
    assert slow["notes"] == [
        *few[:-1],
        f"the run would take {slow['hours'] / 24:,.0f} days: take a faster --device or more --devices, fewer "
        "training.max_steps, or a smaller model.name",
        warm_start,
    ]
    assert slow["hours"] > 24 * 30
    other = ["--prompt-tokens", "20", *small(shape_folder), "training.max_steps=1"]
    assert warm_start not in plan(*other, capsys=capsys)["notes"]


def test_of_vllm_it_is_said_what_the_time_is_and_that_it_is_missing(
    shape_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    settings = ["--prompt-tokens", "20", "--device", "l40s", *small(shape_folder)]
    ours = plan(*settings, capsys=capsys)
    assert "vllm" not in " ".join(ours["notes"]).lower()
    vllm = plan(*settings, "rollout.engine=vllm", capsys=capsys)
    assert vllm["seconds"]["rollout"] == ours["seconds"]["rollout"]
    same = "rollout.engine=vllm: its rollout's time is the same arithmetic as that of in_process"
    missing = "rollout.engine=vllm: vLLM is not installed here (docs/engines.md says which version is needed)"
    assert vllm["notes"][-2:] == [same, missing]
    # A server is elsewhere.
    server = plan(*settings, "rollout.engine=vllm_server", capsys=capsys)
    assert server["notes"][-1] == same.replace("=vllm:", "=vllm_server:")
    # A trial says of its own time what it is.
    trial = plan("--measure", *settings, "rollout.engine=vllm", "--device", "cpu", capsys=capsys)
    assert same not in trial["notes"]
    assert missing in trial["notes"]
    monkeypatch.setitem(sys.modules, "vllm", sys.modules["transformers"])
    assert plan(*settings, "rollout.engine=vllm", capsys=capsys)["notes"][-1] == same


def test_a_trial_measures_sampling_reading_and_learning(shape_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--measure", "--prompt-tokens", "20", "--searches", "1", "--turn-tokens", "16"]
    planned = plan(*flags, *small(shape_folder), capsys=capsys)
    assert planned["tokens"]["expected"] == {"prompt": 20, "sampled": 32, "observed": 64, "total": 116, "step": 464}
    seconds = planned["seconds"]
    assert seconds["measured"] is True
    assert min(seconds[part] for part in ("rollout", "reading", "update", "evaluation")) > 0
    # 512 tokens hold 4 episodes of 116.
    assert (planned["measured"]["episodes"], planned["measured"]["update_episodes"]) == (4, 4)
    # 8 dev questions every 20 steps cost a tenth of the rollout of 4 episodes.
    assert seconds["evaluation"] == pytest.approx(seconds["rollout"] / 10)


def test_a_trial_with_adapters_and_a_shared_critic(shape_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["lora.rank=2", "model.dtype=bfloat16", "training.critic=shared"]
    planned = plan("--measure", "--prompt-tokens", "20", *small(shape_folder), *overrides, capsys=capsys)
    assert planned["seconds"]["update"] > 0


def test_a_model_that_nobody_knows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["plan", "model.name=somebody/unheard-of"]) == USER_ERROR
    assert "the dimensions of these are known without it" in capsys.readouterr().err
