"""How the cost of a StePPO step grows with episodes, context and documents per search.

    OMP_NUM_THREADS=1 python benchmarks/cost_growth.py --full --plots docs/images

Drawn episodes (`shared/drawn_episodes.py`) of 3 turns, played, rewarded, read and learned from by the real parts: a
Qwen2 of 0.6 M parameters with random weights, BM25 over 3,000 passages, the whole reward with its comparison of
documents, `StePPOTrainer`. No text, query or golden document has been met before. One thing grows at a time:

episodes    16 to 512, contexts of 256 tokens, 3 documents per search
context     256 to 4,096 tokens, 8 episodes; prompt, turns, results and passages all grow alike
documents   1 to 10 per search of 40 words each, 32 episodes; results, and so contexts, grow along

Printed are processor seconds and, for each term, the exponent of the power that fits best, over the whole range and
between its last two points. "update" is all that the networks do but for sampling. Attention makes rollout and update
quadratic in the context in the long run, and documents are compared in pairs; all else should be linear or less.
"""

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM

from shared.drawn_episodes import DrawnRunner, Texts, Workload
from shared.ledger import Ledger
from stepsearch.config import Config, load_config
from stepsearch.matching import answers, tfidf
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training.metric_log import MetricLog
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.steppo_trainer import StePPOTrainer

TURNS, PASSAGES, GROUP, LONGEST = 3, 3000, 8, 4352
TERMS = ("rollout", "update", "search", "reward")
COSTLY_SECONDS = 5.0


@dataclass(frozen=True)
class Size:
    """One point: episodes, tokens of prompt, turn and result, documents per search, and words of each."""

    episodes: int
    prompt: int
    turn: int
    observation: int
    documents: int
    words: int

    @classmethod
    def of_context(cls, context: int, episodes: int) -> "Size":
        """Return episodes of that many tokens, half of which are results of 3 documents and 5/16 sampled."""
        turn, observation = 5 * context // (16 * TURNS), context // 4
        prompt = context - TURNS * turn - (TURNS - 1) * observation
        return cls(episodes, prompt, turn, observation, documents=3, words=observation // 3 - 6)

    @property
    def context(self) -> int:
        """Tokens of an episode."""
        return self.prompt + TURNS * self.turn + (TURNS - 1) * self.observation


SWEEPS: Mapping[str, Mapping[int, Size]] = {
    "episodes": {count: Size.of_context(256, count) for count in (16, 32, 64, 128, 256, 512)},
    "context": {length: Size.of_context(length, 8) for length in (256, 512, 1024, 2048, 4096)},
    "documents": {count: Size(32, 48, 27, 10 + 46 * count, count, 40) for count in (1, 2, 3, 5, 10)},
}


def build_policy() -> StepSearchModel:
    """Return a policy of the embedded default's shape, with more positions."""
    torch.manual_seed(0)
    hf_tokenizer = build_tiny_tokenizer()
    shape = Qwen2Config(
        vocab_size=len(hf_tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
    )
    return StepSearchModel(Qwen2ForCausalLM(shape), ModelTokenizer(hf_tokenizer, "question"))


def settings(size: Size) -> Config:
    """Return StePPO's settings for episodes of that size."""
    return load_config(
        overrides=[
            f"model.max_length={LONGEST}",
            f"training.batch_size={size.episodes // GROUP}",
            f"training.rollouts_per_question={GROUP}",
            "training.max_steps=100",
            "training.threads=1",
            "logging.tensorboard=false",
            "logging.trajectories=0",
        ]
    )


def build_trainer(size: Size, folder: Path, ledger: Ledger) -> StePPOTrainer:
    """Return a trainer of such episodes whose parts are noted."""
    config, policy, draw = settings(size), build_policy(), np.random.default_rng(0)
    tokenizer, texts = policy.tokenizer, Texts.of(policy.tokenizer, draw)
    search = GuardedSearch(BM25SearchEngine.from_passages(texts.passages(PASSAGES, size.words)), cache_size=0)
    runner = DrawnRunner(
        InProcessEngine(policy.causal_lm, tokenizer, slots=64, max_length=LONGEST),
        Workload.draw(
            draw,
            size.episodes,
            GROUP,
            turns=TURNS,
            prompt=(size.prompt, size.prompt),
            turn=(size.turn, size.turn),
            observation=(size.observation, size.observation),
            vocabulary=len(tokenizer),
        ),
        search,
        ObservationBuilder(tokenizer, size.observation, size.observation),
        [[texts.text(4) for _ in range(TURNS - 1)] for _ in range(size.episodes)],
        size.documents,
    )
    questions = [texts.question(number, size.words) for number in range(size.episodes // GROUP)]
    rewards = StepSearchRewardCalculator(config.reward)
    ledger.watch("rollout", runner, "run")
    ledger.watch("search", search, "search_batch")
    ledger.watch("reward", rewards, "score_batch")
    return StePPOTrainer(policy, runner, search, rewards, questions, config, RunFolder.at(folder))


def forget() -> None:
    """Empty the caches of the reward."""
    for cached in (tfidf.count_terms, tfidf.golden_terms, answers.normalize):
        cached.cache_clear()


def measure(size: Size, repeats: int) -> dict[str, float]:
    """Return processor seconds of each term of a step: the least of several, of one where a step costs much."""
    ledger, found = Ledger(), []
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(size, Path(folder), ledger)
        with MetricLog(Path(folder), step=0, tensorboard=False) as log:
            for _ in range(repeats):
                ledger.clear()
                forget()
                with ledger.noting("step"):
                    trainer.train_step(log)
                found.append(terms_of(ledger.cpu))
                if ledger.cpu["step"] > COSTLY_SECONDS:
                    break
    return {term: min(seconds[term] for seconds in found) for term in TERMS}


def terms_of(cpu: Mapping[str, float]) -> dict[str, float]:
    """Return the terms, none of which holds another."""
    return {
        "rollout": cpu["rollout"] - cpu["search"],
        "update": cpu["step"] - cpu["rollout"] - cpu["reward"],
        "search": cpu["search"],
        "reward": cpu["reward"],
    }


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope of the line that fits best where both axes are logarithmic."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def draw_plot(name: str, points: Mapping[int, dict[str, float]], folder: Path) -> None:
    """Write one plot with a line per term, and a dotted one that is linear."""
    import matplotlib  # Needed for nothing else here.

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sizes = list(points)
    figure, axes = pyplot.subplots(figsize=(7.0, 4.0), layout="constrained")
    for term, marker in zip(TERMS, "osD^", strict=True):
        seconds = [point[term] for point in points.values()]
        axes.loglog(sizes, seconds, marker=marker, label=f"{term} ({exponent(sizes, seconds):.2f})")
    start = 0.5 * points[sizes[0]]["update"]
    axes.loglog(sizes, [start * size / sizes[0] for size in sizes], "k:", linewidth=1, label="linear")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel({"documents": "documents per search", "context": "tokens per episode"}.get(name, name))
    axes.set_ylabel("processor seconds per step")
    axes.grid(alpha=0.3)
    figure.legend(title="term (exponent)", loc="outside right upper")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"cost_growth_{name}.png", dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Print a table per sweep, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", choices=list(SWEEPS), default=list(SWEEPS))
    parser.add_argument("--full", action="store_true", help="the whole range; default: the small half of it")
    parser.add_argument("--repeats", type=int, default=2, help="of each step that costs less than 5 seconds")
    parser.add_argument("--plots", type=Path, help="folder to draw into; default: none is drawn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}; processor seconds per step")
    for name in options.sweeps:
        count = len(SWEEPS[name])
        sizes = dict(islice(SWEEPS[name].items(), count if options.full else count // 2 + 1))
        points = {size: measure(what, options.repeats) for size, what in sizes.items()}
        print(f"\n{name:10s} context  " + "".join(f"{term:>9s}" for term in TERMS))
        for size, seconds in points.items():
            print(f"{size:10d} {sizes[size].context:7d}  " + "".join(f"{seconds[term]:9.4f}" for term in TERMS))
        for label, count in (("exponent", 0), ("last two", -2)):
            slopes = [exponent(list(points)[count:], [p[term] for p in points.values()][count:]) for term in TERMS]
            print(f"{label:18s}  " + "".join(f"{slope:9.2f}" for slope in slopes))
        if options.plots is not None:
            draw_plot(name, points, options.plots)


if __name__ == "__main__":
    main()
