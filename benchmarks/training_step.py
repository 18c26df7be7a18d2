"""One training step with multi-turn episodes: StePPO, critic included, beside TRL's GRPO.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py --trl-python PATH-TO-PYTHON-WITH-TRL

64 episodes (8 questions, 8 each) of 3 turns with a search result after each but the last, played by the same Qwen2 of
3.7 M parameters with random weights. All lengths are drawn once, and both sides sample and read the same numbers of
tokens. Both hold the policy against a reference and pass over the batch once, in one optimiser step. Ours also trains a
critic of the policy's size, reads its values before the update, searches, rewards every search
step and writes its log; the step is `StePPOTrainer.train_step`. TRL's side generates with `generate` turn by turn in a
`rollout_func` and masks what was read by `env_mask`; its rewards are 0 and 1 in turn.

The two sides take turns, a step each, and the ratio is that of neighbours. A trained token is a sampled one.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM

from shared.drawn_episodes import DrawnRunner, Texts, Workload
from shared.ledger import Ledger, spread
from stepsearch.config import Config, load_config
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search import MockSearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training.metric_log import MetricLog
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.steppo_trainer import StePPOTrainer

EPISODES, GROUP, TURNS, TOP_K = 64, 8, 3, 3
VOCABULARY = 2048
PEER = Path(__file__).parent / "peers" / "trl_step.py"


@dataclass(frozen=True)
class Cost:
    """Processor and wall seconds of one step and of the rollout in it; ours also says how the wall time splits."""

    rollout: tuple[float, float]
    step: tuple[float, float]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def update(self) -> float:
        """Processor seconds of all but the rollout."""
        return self.step[0] - self.rollout[0]


def build_model() -> Qwen2ForCausalLM:
    """Return the policy."""
    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(shape)


def settings(options: argparse.Namespace) -> Config:
    """Return StePPO's settings: its defaults, but for the size of the batch and what is written."""
    return load_config(
        overrides=[
            f"training.batch_size={EPISODES // GROUP}",
            f"training.rollouts_per_question={GROUP}",
            "training.max_steps=10000",
            "training.threads=1",
            f"training.microbatch_tokens={options.microbatch_tokens}",
            "logging.tensorboard=false",
            *options.overrides,
        ]
    )


def draw_workload(options: argparse.Namespace) -> Workload:
    """Return the episodes of both sides."""
    return Workload.draw(
        np.random.default_rng(0),
        EPISODES,
        GROUP,
        turns=TURNS,
        prompt=(15, 35),
        turn=tuple(options.turn_tokens),
        observation=tuple(options.observation_tokens),
        vocabulary=VOCABULARY,
    )


def build_trainer(workload: Workload, folder: Path, config: Config, ledger: Ledger) -> StePPOTrainer:
    """Return StePPO on the drawn episodes, its rollout noted."""
    tokenizer = ModelTokenizer(build_tiny_tokenizer(), "question")
    policy = StepSearchModel(build_model(), tokenizer)
    texts = Texts.of(tokenizer, np.random.default_rng(1))
    queries = [[texts.text(4) for _ in range(TURNS - 1)] for _ in range(EPISODES)]
    found = {query: [texts.text(20) for _ in range(TOP_K)] for row in queries for query in row}
    search = GuardedSearch(MockSearchEngine(found))
    runner = DrawnRunner(
        InProcessEngine(policy.causal_lm, tokenizer, slots=EPISODES, max_length=config.model.max_length),
        workload,
        search,
        ObservationBuilder(tokenizer, config.rollout.max_observation_tokens, config.rollout.max_passage_tokens),
        queries,
        TOP_K,
    )
    questions = [texts.question(number, words=20) for number in range(EPISODES // GROUP)]
    rewards = StepSearchRewardCalculator(config.reward)
    ledger.watch("rollout", runner, "run")
    return StePPOTrainer(policy, runner, search, rewards, questions, config, RunFolder.at(folder))


@contextmanager
def ours(workload: Workload, folder: Path, config: Config) -> Generator[Callable[[], Cost]]:
    """Give what takes one step of StePPO."""
    ledger = Ledger()
    trainer = build_trainer(workload, folder, config, ledger)
    with MetricLog(folder / "logs", step=0, tensorboard=False) as log:

        def step() -> Cost:
            ledger.clear()
            with ledger.noting("step"):
                metrics = trainer.train_step(log)
            seconds = {key: metrics[key] for key in metrics if key.startswith("time/")}
            rollout, step = ((ledger.cpu[part], ledger.wall[part]) for part in ("rollout", "step"))
            return Cost(rollout, step, seconds)

        yield step


@contextmanager
def theirs(workload: Workload, folder: Path, python: Path, accumulation: int) -> Generator[Callable[[], Cost]]:
    """Give what takes one step of TRL's GRPO, in a process of its own."""
    build_model().save_pretrained(folder)
    build_tiny_tokenizer().save_pretrained(folder)
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))
    command = [str(python), str(PEER), str(folder), str(accumulation)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "stderr").open("w"), text=True
    ) as process:
        assert process.stdin is not None

        def step() -> Cost:
            process.stdin.write("\n")
            process.stdin.flush()
            report = read_report(process, folder)
            return Cost(tuple(report["rollout"]), tuple(report["step"]))

        versions = read_report(process, folder)
        print("TRL's side: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
        yield step
        process.stdin.close()


def read_report(process: subprocess.Popen[str], folder: Path) -> dict:
    """Return the next thing that the peer reports."""
    for line in process.stdout or ():
        if line.startswith("REPORT "):
            return json.loads(line.removeprefix("REPORT "))
    raise SystemExit(f"TRL's side ended: {(folder / 'stderr').read_text()[-2000:]}")


def show(name: str, costs: list[Cost], trained: int) -> None:
    """Print what a side's steps cost."""
    print(
        f"{name:7s} step {spread([cost.step[0] for cost in costs])}  rollout {spread([c.rollout[0] for c in costs])}  "
        f"rest {spread([cost.update for cost in costs])}  wall {spread([cost.step[1] for cost in costs])}  "
        f"{1000 * median(cost.step[0] for cost in costs) / trained:.2f} ms per trained token"
    )


def main() -> None:
    """Print each side's cost and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", type=Path, help="Python of an environment with TRL; default: ours alone")
    parser.add_argument("--steps", type=int, default=2, help="measured steps, after one that warms up")
    parser.add_argument("--turn-tokens", type=int, nargs=2, default=[8, 24], help="bounds of a turn's length")
    parser.add_argument("--observation-tokens", type=int, nargs=2, default=[16, 32], help="of a search result's")
    parser.add_argument("--microbatch-tokens", type=int, default=8192, help="ours, per pass")
    parser.add_argument("--accumulation", type=int, default=1, help="TRL's gradient_accumulation_steps")
    parser.add_argument("overrides", nargs="*", help="section.key=value of StePPO's settings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    workload = draw_workload(options)
    print(
        f"{EPISODES} episodes of {TURNS} turns: {workload.sampled_tokens} tokens sampled and trained on, "
        f"{workload.tokens} in all; {sum(p.numel() for p in build_model().parameters()) / 1e6:.2f} M parameters; "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with ours(workload, folder / "ours", settings(options)) as our_step:
            if options.trl_python is None:
                print("TRL's side is skipped: --trl-python names no environment that has it")
                compare(workload, options.steps, our_step, None)
                return
            with theirs(workload, folder / "theirs", options.trl_python, options.accumulation) as their_step:
                compare(workload, options.steps, our_step, their_step)


def compare(
    workload: Workload, steps: int, our_step: Callable[[], Cost], their_step: Callable[[], Cost] | None
) -> None:
    """Take the steps in turn, the first of each unmeasured, and print what they cost."""
    pairs = [(our_step(), None if their_step is None else their_step()) for _ in range(steps + 1)][1:]
    print("seconds of processor time (wall where it says so), min / median / max")
    show("StePPO", [mine for mine, _ in pairs], workload.sampled_tokens)
    walls = [mine.seconds for mine, _ in pairs]
    parts = ", ".join(f"{key.removeprefix('time/')} {median(wall[key] for wall in walls):.2f}" for key in walls[0])
    print(f"        wall by its own log: {parts}")
    if their_step is None:
        return
    show("GRPO", [other for _, other in pairs if other is not None], workload.sampled_tokens)
    for part, of in {
        "step": lambda cost: cost.step[0],
        "rollout": lambda cost: cost.rollout[0],
        "rest": lambda cost: cost.update,
        "step, wall": lambda cost: cost.step[1],
    }.items():
        print(f"ratio of {part}: {spread([of(other) / of(mine) for mine, other in pairs])}")


if __name__ == "__main__":
    main()
