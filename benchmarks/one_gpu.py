"""One training step of a real model's shape on one GPU: speed beside what the chip allows, and memory by part.

    python benchmarks/one_gpu.py --shape Qwen/Qwen2.5-3B --episodes 64 --lora-rank 32
    python benchmarks/one_gpu.py --shape Qwen/Qwen2.5-3B --episodes 64

The policy has random weights, and a tokenizer that knows fewer tokens than it; lengths of turns and search results are
drawn once, so that every run does the same work. The step is `StePPOTrainer.train_step`: rollout, search, rewards,
readings of policy, reference and critic, and the updates of policy and critic.

The rollout is held against its roofline: every step has to read all weights and the keys and values of all sequences
that decode, at the bandwidth that a copy reaches here, and context is read at the rate of products. Readings and
updates are held against the rate that a large bfloat16 product reaches here (MFU: operations of the model, none that
are done twice to save memory).
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers

from shared.drawn_episodes import DrawnRunner, Texts, Workload
from stepsearch.config import Config, ModelSettings, load_config
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.known_shapes import KNOWN_MODELS, known_config
from stepsearch.models.kv_pools import shape_of
from stepsearch.models.packed_step import Reading
from stepsearch.models.rollout_copy import RolloutCopy
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tiny import tiny_config
from stepsearch.models.trunk import chosen_device
from stepsearch.models.untrained import untrained_policy
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.rollout import SyncedRunner
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search import MockSearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training.metric_log import MetricLog
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.steppo_trainer import StePPOTrainer

TURNS, TOP_K = 5, 3
TINY = "tiny"


@dataclass(frozen=True)
class Chip:
    """What a device reaches: bytes read and written per second, and operations per second in bfloat16."""

    name: str
    bandwidth: float
    operations: float

    @classmethod
    def measured(cls, device: torch.device) -> "Chip":
        """Return the device's, measured."""
        on_cpu = device.type == "cpu"
        count, width = (2**24, 512) if on_cpu else (2**31, 8192)
        source = torch.ones(count, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        copy = fastest(device, lambda: target.copy_(source))
        square = torch.randn(width, width, dtype=torch.bfloat16, device=device)
        product = fastest(device, lambda: square @ square)
        name = "CPU" if on_cpu else torch.cuda.get_device_name(device)
        return cls(name, 2 * count / copy, 2 * width**3 / product)


def fastest(device: torch.device, run: Callable[[], object], repeats: int = 10) -> float:
    """Return the seconds that the median of some runs takes, after two that warm up."""
    seconds: list[float] = []
    for _ in range(repeats + 2):
        wait(device)
        started = time.perf_counter()
        run()
        wait(device)
        seconds.append(time.perf_counter() - started)
    return median(seconds[2:])


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def random_policy(shape: str, dtype: str) -> StepSearchModel:
    """Return a policy with random weights, made on the device."""
    config = tiny_config() if shape == TINY else known_config(shape)
    assert config is not None
    # Turns end where they are drawn to end, and the tiny policy is to have room for them too.
    config.eos_token_id, config.max_position_embeddings = None, 32768
    torch.manual_seed(0)
    return untrained_policy(config, ModelSettings(dtype=dtype, attention="sdpa"))


def settings(options: argparse.Namespace) -> Config:
    """Return the settings of the step."""
    return load_config(
        overrides=[
            f"training.batch_size={options.episodes}",
            f"training.minibatch_size={options.episodes}",
            f"training.microbatch_tokens={options.microbatch_tokens}",
            f"rollout.slots={options.slots}",
            "model.max_length=4096",
            "rollout.max_observation_tokens=512",
            "training.max_steps=10000",
            "training.gradient_checkpointing=true",
            "training.old_logprobs=recompute",
            "logging.tensorboard=false",
            f"lora.rank={options.lora_rank}",
            "training.mixed_precision=bf16",
            *options.overrides,
        ]
    )


@dataclass
class Seen:
    """What the engine read in one rollout: the seconds of each step, and the tokens of context in it."""

    seconds: list[float] = field(default_factory=list)
    context: list[int] = field(default_factory=list)

    def watch(self, engine: InProcessEngine) -> None:
        """Note every step from now on."""
        reader = engine._reader
        read = reader.read

        def noted(reading: Reading) -> torch.Tensor:
            started = time.perf_counter()
            logits = read(reading)
            wait(logits.device)
            self.seconds.append(time.perf_counter() - started)
            self.context.append(sum(len(chunk.token_ids) for chunk in reading.chunks))
            return logits

        reader.read = noted  # type: ignore[method-assign]

    def __str__(self) -> str:
        seconds, context = np.array(self.seconds), np.array(self.context)
        reads = context > 0
        kinds = {"decode": ~reads, "read context too": reads}
        parts = [
            f"{kind} {chosen.sum()}, median {1000 * np.median(seconds[chosen]):.1f} ms, {seconds[chosen].sum():.2f} s"
            for kind, chosen in kinds.items()
            if chosen.any()
        ]
        return f"steps that {'; that '.join(parts)}, median {np.median(context[reads]):,.0f} tokens"


@contextmanager
def trainer_of(
    options: argparse.Namespace, workload: Workload, device: torch.device, seen: Seen
) -> Generator[tuple[StePPOTrainer, StepSearchModel, MetricLog]]:
    """Give StePPO on the drawn episodes."""
    config = settings(options)
    policy = random_policy(options.shape, "bfloat16" if options.lora_rank else "float32")
    tokenizer = policy.tokenizer
    texts = Texts.of(tokenizer, np.random.default_rng(1))
    queries = [[texts.text(4) for _ in range(TURNS - 1)] for _ in range(options.episodes)]
    search = GuardedSearch(
        MockSearchEngine({q: [texts.text(100) for _ in range(TOP_K)] for row in queries for q in row})
    )
    copy = RolloutCopy(policy)
    engine = InProcessEngine(copy.causal_lm, tokenizer, slots=options.slots, max_length=config.model.max_length)
    seen.watch(engine)
    observations = ObservationBuilder(
        tokenizer, config.rollout.max_observation_tokens, config.rollout.max_passage_tokens
    )
    runner = SyncedRunner(DrawnRunner(engine, workload, search, observations, queries, TOP_K), copy.sync)
    questions = [texts.question(number, words=100) for number in range(options.episodes)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = StePPOTrainer(
            policy, runner, search, StepSearchRewardCalculator(config.reward), questions, config, RunFolder.at(folder)
        )
        with MetricLog(Path(folder) / "logs", step=0, tensorboard=False) as log:
            yield trainer, policy, log


def attended(workload: Workload) -> int:
    """Return how many keys all sampled tokens attend to."""
    total = 0
    for prompt, turns, observations in zip(workload.prompts, workload.turn_tokens, workload.observations, strict=True):
        length = len(prompt)
        for turn, sampled in enumerate(turns):
            total += sampled * length + sampled * (sampled + 1) // 2
            length += sampled + (len(observations[turn]) if turn < len(observations) else 0)
    return total


def forward_operations(policy: StepSearchModel, workload: Workload) -> float:
    """Return the operations of one forward pass over all episodes, the head for sampled tokens alone."""
    config = policy.causal_lm.config
    layers = policy.causal_lm.get_decoder().layers
    weights = sum(p.numel() for name, p in layers.named_parameters() if p.dim() == 2 and "lora" not in name)
    head = config.vocab_size * config.hidden_size
    lengths = [
        len(prompt) + sum(turns) + sum(map(len, observations))
        for prompt, turns, observations in zip(
            workload.prompts, workload.turn_tokens, workload.observations, strict=True
        )
    ]
    attention = 4 * config.num_hidden_layers * config.hidden_size * sum(length**2 / 2 for length in lengths)
    return 2 * weights * workload.tokens + attention + 2 * head * workload.sampled_tokens


def report(
    chip: Chip, policy: StepSearchModel, workload: Workload, metrics: dict[str, float], seen: Seen, lora: bool
) -> None:
    """Print one step's speed beside the chip's."""
    seconds = {key.removeprefix("time/"): value for key, value in metrics.items() if key.startswith("time/")}
    print("  seconds: " + ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()))
    print(f"  {seen}")
    steps = len(seen.seconds)
    shape = shape_of(policy.causal_lm)
    half = 2
    weight_bytes = half * sum(p.numel() for name, p in policy.causal_lm.named_parameters() if "lora" not in name)
    cache_bytes = half * 2 * shape.layers * shape.heads * shape.width * attended(workload)
    forward = forward_operations(policy, workload)
    # What is sampled is read one token at a time, which the first term has; the rest is read at the rate of products.
    context = 1 - workload.sampled_tokens / workload.tokens
    floor = (steps * weight_bytes + cache_bytes) / chip.bandwidth + context * forward / chip.operations
    rate = workload.sampled_tokens / seconds["rollout"]
    print(
        f"  rollout: {rate:,.0f} tokens/s in {steps} steps of {1000 * seconds['rollout'] / steps:.1f} ms; the roofline "
        f"of these steps is {1000 * floor / steps:.1f} ms ({floor / seconds['rollout']:.0%} of it reached)"
    )
    if "reading" not in seconds:
        return
    # With adapters there are no gradients of weights; reference, policy and critic are read once each.
    update = 2 * forward * (2 if lora else 3)
    for part, operations in {"reading": 3 * forward, "update": update}.items():
        print(f"  {part}: MFU {operations / seconds[part] / chip.operations:.0%}")


def main() -> None:
    """Take a step that warms up, then measured ones, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=(TINY, *KNOWN_MODELS), default="Qwen/Qwen2.5-3B")
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--slots", type=int, default=256)
    parser.add_argument("--lora-rank", type=int, default=0, help="0 trains all weights, in float32 with bf16 autocast")
    parser.add_argument("--microbatch-tokens", type=int, default=16384)
    parser.add_argument("--steps", type=int, default=1, help="measured ones, after one that warms up")
    parser.add_argument("--rollout-only", action="store_true")
    parser.add_argument("overrides", nargs="*", help="section.key=value")
    options = parser.parse_args()
    options.slots = min(options.slots, options.episodes)
    device = chosen_device("auto")
    chip = Chip.measured(device)
    print(
        f"{chip.name}: copies {chip.bandwidth / 1e12:.2f} TB/s, bfloat16 products "
        f"{chip.operations / 1e12:.0f} TFLOP/s; torch {torch.__version__}, transformers {transformers.__version__}"
    )
    workload = Workload.draw(
        np.random.default_rng(0),
        options.episodes,
        1,
        turns=TURNS,
        prompt=(200, 400),
        turn=(60, 140),
        observation=(350, 500),
        vocabulary=900,
    )
    seen = Seen()
    with trainer_of(options, workload, device, seen) as (trainer, policy, log):
        count = sum(p.numel() for name, p in policy.causal_lm.named_parameters() if "lora" not in name)
        how = f"LoRA of rank {options.lora_rank}" if options.lora_rank else "all weights"
        print(
            f"{options.shape}: {count / 1e9:.2f} B parameters, {how}; {options.episodes} episodes of {TURNS} turns, "
            f"{workload.sampled_tokens} tokens sampled of {workload.tokens}; {options.slots} slots"
        )
        for step in range(options.steps + 1):
            seen.seconds.clear()
            seen.context.clear()
            with peak_memory(device):
                metrics = rollout(trainer) if options.rollout_only else trainer.train_step(log)
            print("warm-up" if step == 0 else f"step {step}")
            report(chip, policy, workload, metrics, seen, bool(options.lora_rank))


def rollout(trainer: StePPOTrainer) -> dict[str, float]:
    """Play a step's episodes alone."""
    started = time.perf_counter()
    trainer._collect()
    return {"time/rollout": time.perf_counter() - started}


@contextmanager
def peak_memory(device: torch.device) -> Generator[None]:
    """Print the most memory that the block had allocated on a GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield
    if device.type == "cuda":
        print(f"  peak memory {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
