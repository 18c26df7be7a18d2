"""Sampled tokens per second of multi-turn episodes: the in-process engine beside `transformers.generate` turn by turn.

    OMP_NUM_THREADS=1 python benchmarks/rollout_throughput.py --episodes 80 128 --threads 1

A tiny Qwen2 with random weights plays episodes of four turns with a search result after each but the last. How many
tokens each turn samples and each result has is drawn once, so that both sides do the same work. Sampled tokens count;
context that is read does not.
"""

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.rollout.generation import Sampling

TURNS = 4
VOCABULARY = 1200


@dataclass(frozen=True)
class Workload:
    """Prompts, and per episode and turn how many tokens are sampled and what is observed before it."""

    prompts: list[list[int]]
    turn_tokens: np.ndarray
    observations: list[list[list[int]]]

    @classmethod
    def draw(cls, episodes: int, seed: int = 0) -> "Workload":
        """Return episodes of about 180 sampled and 250 read tokens."""
        draw = np.random.default_rng(seed)

        def ids(low: int, high: int) -> list[int]:
            return draw.integers(2, 1100, size=draw.integers(low, high)).tolist()

        return cls(
            prompts=[ids(15, 35) for _ in range(episodes)],
            turn_tokens=draw.integers(25, 65, size=(episodes, TURNS)),
            observations=[[ids(50, 95) for _ in range(TURNS - 1)] for _ in range(episodes)],
        )


def with_engine(causal_lm: Qwen2ForCausalLM, workload: Workload, slots: int) -> int:
    """Play the workload with the in-process engine; return the sampled tokens."""
    engine = InProcessEngine(causal_lm, ModelTokenizer(build_tiny_tokenizer(), "question"), slots=slots)
    contexts = [list(prompt) for prompt in workload.prompts]
    turns = [0] * len(contexts)
    sampled = 0

    def submit(index: int) -> None:
        engine.submit(index, contexts[index], Sampling(int(workload.turn_tokens[index, turns[index]]), seed=index))

    for index in range(len(contexts)):
        submit(index)
    while engine.active:
        for segment in engine.step():
            index = segment.request_id
            sampled += len(segment.token_ids)
            contexts[index] += segment.token_ids
            if turns[index] == TURNS - 1:
                engine.release(index)
                continue
            contexts[index] += workload.observations[index][turns[index]]
            turns[index] += 1
            submit(index)
    return sampled


def with_generate(causal_lm: Qwen2ForCausalLM, workload: Workload, slots: int) -> int:
    """Play the workload with `generate`, left-padded, `slots` episodes at a time, the whole context read each turn."""
    sampled = 0
    for start in range(0, len(workload.prompts), slots):
        indices = range(start, min(start + slots, len(workload.prompts)))
        contexts = {index: list(workload.prompts[index]) for index in indices}
        for turn in range(TURNS):
            longest = max(len(context) for context in contexts.values())
            ids = torch.tensor([[0] * (longest - len(context)) + context for context in contexts.values()])
            mask = torch.tensor([[0] * (longest - len(c)) + [1] * len(c) for c in contexts.values()])
            limits = workload.turn_tokens[list(indices), turn]
            output = causal_lm.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                max_new_tokens=int(limits.max()),
                pad_token_id=0,
                eos_token_id=[VOCABULARY - 1],
                return_dict_in_generate=True,
                output_logits=True,
            )
            for row, (index, limit) in enumerate(zip(indices, limits.tolist(), strict=True)):
                contexts[index] += output.sequences[row, longest : longest + limit].tolist()
                sampled += limit
                if turn < TURNS - 1:
                    contexts[index] += workload.observations[index][turn]
    return sampled


def measure(play: Callable[[Qwen2ForCausalLM, Workload, int], int], *arguments: object) -> str:
    """Return tokens per second of wall and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    sampled = play(*arguments)  # type: ignore[arg-type]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return f"{sampled:7d} tokens  {sampled / wall:7.0f} tok/s wall  {sampled / cpu:7.0f} tok/s of CPU"


def main() -> None:
    """Print one line per engine and number of episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, nargs="+", default=[80, 128])
    parser.add_argument("--slots", type=int, nargs="+", default=[64])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--engine-only", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=options.hidden,
        intermediate_size=2 * options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    causal_lm = Qwen2ForCausalLM(config).eval()
    print(f"{sum(p.numel() for p in causal_lm.parameters()) / 1e6:.2f} M parameters, {options.threads} threads")
    with_engine(causal_lm, Workload.draw(8), 8)
    for episodes in options.episodes:
        workload = Workload.draw(episodes)
        for slots in options.slots:
            print(
                f"{episodes:4d} episodes, {slots:3d} slots, engine   {measure(with_engine, causal_lm, workload, slots)}"
            )
        if not options.engine_only:
            print(f"{episodes:4d} episodes,            generate {measure(with_generate, causal_lm, workload, 128)}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
