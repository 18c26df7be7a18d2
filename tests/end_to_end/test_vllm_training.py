"""StePPO with vLLM as the engine, through the command line; runs where vLLM is installed (`make test-engines`)."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from stepsearch.cli.main import main

PROJECT = Path(__file__).parents[2]
SETTINGS = {
    "rollout.engine": "vllm",
    "vllm.cache_gib": 0.25,
    "training.max_steps": 2,
    "training.batch_size": 8,
    "training.minibatch_size": 4,
    "training.value_warmup_steps": 0,
    "training.importance_cap": 2,
    "evaluation.every_steps": 2,
    "evaluation.dev_questions": 4,
}


def arguments(world: Path, model: Path, output: Path) -> list[str]:
    data = world / "data"
    files = ["--musique-path", data / "train_processed.json", "--eval-musique-path", data / "dev_processed.json"]
    settings = {**SETTINGS, "model.name": model}
    return [
        *("train", "--config", str(PROJECT / "config" / "tiny.yaml"), *map(str, files), "--output-dir", str(output)),
        *(f"{key}={value}" for key, value in settings.items()),
    ]


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here: make test-engines has it")
def test_training_with_vllm(world: Path, searching_policy: Path, tmp_path: Path) -> None:
    assert main(arguments(world, searching_policy, tmp_path)) == 0

    lines = (tmp_path / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    _, *steps = [json.loads(line) for line in lines]
    assert len(steps) == 2
    for step in steps:
        # The weights of the step before have arrived: engine and trainer agree on what was sampled.
        assert step["rollout/logprob_gap"] < 1e-4
        assert 0 <= step["rollout/mismatch_kl"] < 1e-6
        assert step["rollout/mismatch_ratio_max"] == pytest.approx(1, abs=1e-3)
        assert step["rollout/searches_per_question"] > 0
        assert step["policy/entropy"] > 0
        assert step["optim/grad_norm"] > 0
    assert (tmp_path / "checkpoints" / "best_model" / "model.safetensors").is_file()
    record = json.loads((tmp_path / "checkpoints" / "best_model" / "stepsearch.json").read_text(encoding="utf-8"))
    assert "engine" not in record["rollout"]
    assert "vllm" not in record


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_way_out_is_named(world: Path, searching_policy: Path, tmp_path: Path, capsys) -> None:
    assert main(arguments(world, searching_policy, tmp_path)) == 2

    error = " ".join(capsys.readouterr().err.split())
    assert "rollout.engine=vllm needs vLLM in this environment" in error
    assert "Traceback" not in error
    assert not (tmp_path / "checkpoints" / "best_model").exists()
