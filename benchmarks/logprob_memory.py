"""How much memory log-probabilities and entropies take at a vocabulary of 150 thousand tokens, beside the plain way.

    OMP_NUM_THREADS=1 python benchmarks/logprob_memory.py

A Qwen2 with a vocabulary of 151,936 and little else scores the same tokens in two ways: the policy's own, with logits
for a piece of them at a time, and the plain one, a log-softmax over all logits as the model returns them. Each way and
pass runs in a process of its own; what counts is by how much that process's peak memory (ru_maxrss) grows. Both must
agree in log-probabilities, entropies and the gradient's norm, else the benchmark fails.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time

import torch
import transformers
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from stepsearch.models import ModelTokenizer, StepSearchModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer

VOCABULARY = 151_936
ROWS = 4
PROMPT = 8
WAYS = ("ours", "plain")
PASSES = ("forward", "forward and backward")


def build_policy() -> StepSearchModel:
    """Return a random policy that is hardly more than its embedding."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=0,
    )
    return StepSearchModel(Qwen2ForCausalLM(config), ModelTokenizer(build_tiny_tokenizer(), "question"))


def plain_scores(policy: StepSearchModel, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return log-probabilities and entropies [B, T - PROMPT] of what follows the prompt, from logits [B, T, V]."""
    logits = policy.causal_lm(input_ids=input_ids, use_cache=False).logits[:, PROMPT - 1 : -1]
    log_distribution = torch.log_softmax(logits, dim=-1)
    logprobs = log_distribution.gather(2, input_ids[:, PROMPT:, None])[..., 0]
    return logprobs, -(log_distribution.exp() * log_distribution).sum(dim=-1)


def our_scores(policy: StepSearchModel, input_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same as the policy makes them."""
    mask = (torch.arange(input_ids.shape[1]) >= PROMPT).long().expand_as(input_ids)
    scores = policy(input_ids, mask)
    assert scores.entropy is not None
    return scores.logprobs[:, PROMPT:], scores.entropy[:, PROMPT:]


def peak_mb() -> float:
    """Return the process's largest memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, passes: str, tokens: int) -> dict[str, float]:
    """Return peak, time and results of one way, in this process."""
    torch.set_num_threads(1)
    policy = build_policy()
    input_ids = torch.randint(0, VOCABULARY, (ROWS, PROMPT + tokens // ROWS))
    scores = our_scores if way == "ours" else plain_scores
    scores(policy, input_ids[:1, : PROMPT + 1])[0].sum().backward()  # The gradient's own memory counts for neither.
    policy.zero_grad(set_to_none=False)
    before, started = peak_mb(), time.process_time()
    with torch.set_grad_enabled(passes != "forward"):
        logprobs, entropy = scores(policy, input_ids)
    norm = 0.0
    if passes != "forward":
        (logprobs.mean() + 0.01 * entropy.mean()).backward()
        norm = float(torch.nn.utils.clip_grad_norm_(policy.parameters(), math.inf))
    seconds = time.process_time() - started
    results = {"logprob": logprobs.mean().item(), "entropy": entropy.mean().item(), "gradient": norm}
    return {"mb": peak_mb() - before, "seconds": seconds, **results}


def measure_apart(way: str, passes: str, tokens: int) -> dict[str, float]:
    """Return what `measure` does, from a process of its own."""
    command = [sys.executable, __file__, "--tokens", str(tokens), "--one", way, passes]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a line per way and pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024], help="tokens scored")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "PASSES"), help="measure one case and print it as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, *options.tokens)))
        return
    print(f"vocabulary {VOCABULARY:,}; torch {torch.__version__}, transformers {transformers.__version__}")
    print("tokens  logits MB  passes                  way     peak MB   CPU s")
    for tokens in options.tokens:
        for passes in PASSES:
            compare(passes, tokens)


def compare(passes: str, tokens: int) -> None:
    """Print both ways, and fail where they disagree."""
    found = {way: measure_apart(way, passes, tokens) for way in WAYS}
    for way, case in found.items():
        logits = tokens * VOCABULARY * 4 / 2**20
        print(
            f"{tokens:6d}  {logits:9.0f}  {passes:22s}  {way:6s} {case['mb']:8.0f} {case['seconds']:7.2f}", flush=True
        )
    for name in ("logprob", "entropy", "gradient"):
        ours, plain = (found[way][name] for way in WAYS)
        assert math.isclose(ours, plain, rel_tol=1e-5, abs_tol=1e-5), f"{name}: {ours} and {plain}"


if __name__ == "__main__":
    main()
