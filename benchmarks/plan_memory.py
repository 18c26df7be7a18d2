"""The memory that `stepsearch plan` predicts beside what a step really takes, for a policy of 66 million parameters.

    OMP_NUM_THREADS=1 python benchmarks/plan_memory.py

Each case runs in a process of its own, and samples, reads and learns from a micro-batch as `plan --measure` does. What
is compared is how far the process grew at most, beyond what it held when all its code was loaded and had run once on a
model of no size; once with every freed block given back to the system, so that the growth is what tensors take, and
once as glibc does by itself, which keeps gaps. The prediction is of episodes as long as the trial's.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace

import torch
from transformers import PreTrainedConfig, Qwen2Config

from stepsearch.config import Config, load_config
from stepsearch.models.model_shape import adapter_parameters, shape_of_config
from stepsearch.models.untrained import untrained_policy
from stepsearch.training.planning.devices import DEVICES
from stepsearch.training.planning.measurement import measure_step
from stepsearch.training.planning.plan import RunPlan, plan_run
from stepsearch.training.planning.quantities import Assumptions, EpisodeTokens

SETTINGS = (
    "model.max_length=512",
    "rollout.max_turn_tokens=64",
    "rollout.max_observation_tokens=128",
    "rollout.max_passage_tokens=42",
    "training.batch_size=3",
    "training.microbatch_tokens=1536",
    "training.threads=1",
)
CASES = {
    "all weights": (),
    "all weights, checkpointing": ("training.gradient_checkpointing=true",),
    "adapters": ("lora.rank=16",),
    "adapters, checkpointing": ("lora.rank=16", "training.gradient_checkpointing=true"),
}
EPISODE = EpisodeTokens(prompt=64, sampled=192, observed=256)
STATED_FACTOR = 1.25
# glibc gives back what is freed of blocks that are larger than this, which by itself it soon raises to 32 MiB.
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def mid_sized() -> PreTrainedConfig:
    return Qwen2Config(
        vocab_size=32_000,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        dtype="float32",
    )


def of_no_size() -> PreTrainedConfig:
    return Qwen2Config(
        vocab_size=2048,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        dtype="float32",
    )


def predicted(config: Config, hf_config: PreTrainedConfig) -> RunPlan:
    """Return the plan for episodes that all are as long as the trial's."""
    assumed = Assumptions(DEVICES["cpu"], prompt_tokens=EPISODE.prompt)
    shape = shape_of_config(hf_config, "benchmark")
    return plan_run(config, shape, assumed, adapter=adapter_parameters(hf_config, config.lora))


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured_growth(config: Config) -> int:
    """Return how far this process grows during a trial."""
    torch.set_num_threads(1)
    small = replace(EPISODE, prompt=8, sampled=16, observed=8)
    measure_step(untrained_policy(of_no_size(), config.model), config, small)
    before = peak_bytes()
    measure_step(untrained_policy(mid_sized(), config.model), config, EPISODE)
    return peak_bytes() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=tuple(CASES), help="Measure one case in this process.")
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measured_growth(load_config(None, [*SETTINGS, *CASES[args.case]]))))
        return
    worst = 1.0
    for case, overrides in CASES.items():
        plan = predicted(load_config(None, [*SETTINGS, *overrides]), mid_sized())
        tensors, grown = growth_of_process(case, GIVEN_BACK), growth_of_process(case, {})
        ratio = plan.peak_bytes / tensors
        worst = max(worst, ratio, 1 / ratio)
        print(
            f"{case:28}  predicted {plan.peak_bytes / 2**20:6.0f} MiB ({plan.peak_phase})  "
            f"tensors {tensors / 2**20:6.0f} MiB  {ratio:.2f}  with gaps {grown / 2**20:6.0f} MiB",
            flush=True,
        )
    print(f"within a factor of {worst:.2f} of what tensors take; stated: {STATED_FACTOR}")


def growth_of_process(case: str, environment: dict[str, str]) -> int:
    """Return what `measured_growth` says in a process of its own."""
    command = [sys.executable, __file__, "--case", case]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    return json.loads(ran.stdout)


if __name__ == "__main__":
    main()
