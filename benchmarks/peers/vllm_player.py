"""Plays the workload of `rollout_throughput.py` with vLLM in process, in an environment that has vLLM alone.

    python vllm_player.py MODEL_FOLDER

Reads a workload per line of its input, as JSON, and answers each with a line of JSON: sampled tokens, and the seconds
of processor and wall time that playing took.
"""

import json
import os
import sys
import time

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "HF_HUB_OFFLINE": "1",
}

import torch
from vllm import LLM, SamplingParams


def load(folder: str) -> LLM:
    """Return the model with its prefix cache on."""
    return LLM(
        folder,
        skip_tokenizer_init=True,
        dtype="float32",
        max_model_len=2048,
        enforce_eager=True,
        enable_prefix_caching=True,
        distributed_executor_backend="uni",
        seed=0,
    )


def play(llm: LLM, workload: dict) -> int:
    """Play every episode, each turn as long as drawn; return the sampled tokens."""
    engine = llm.llm_engine
    contexts = [list(prompt) for prompt in workload["prompts"]]
    turns = [0] * len(contexts)
    sampled = 0

    def submit(episode: int) -> None:
        length = workload["turn_tokens"][episode][turns[episode]]
        sampling = SamplingParams(
            temperature=1.0, max_tokens=length, ignore_eos=True, logprobs=0, detokenize=False, seed=None
        )
        engine.add_request(f"{episode}-{turns[episode]}", {"prompt_token_ids": contexts[episode]}, sampling)

    for episode in range(len(contexts)):
        submit(episode)
    while engine.has_unfinished_requests():
        for output in engine.step():
            if not output.finished:
                continue
            episode = int(output.request_id.split("-")[0])
            completion = output.outputs[0]
            assert len(completion.logprobs) == len(completion.token_ids)
            sampled += len(completion.token_ids)
            contexts[episode] += completion.token_ids
            observations = workload["observations"][episode]
            if turns[episode] < len(observations):
                contexts[episode] += observations[turns[episode]]
                turns[episode] += 1
                submit(episode)
    return sampled


def main() -> None:
    """Answer workloads until the input ends."""
    llm = load(sys.argv[1])
    import vllm

    print(json.dumps({"versions": f"vllm {vllm.__version__}, torch {torch.__version__}"}), flush=True)
    for line in sys.stdin:
        llm.llm_engine.reset_prefix_cache()
        wall, processor = time.perf_counter(), time.process_time()
        sampled = play(llm, json.loads(line))
        times = {"processor": time.process_time() - processor, "wall": time.perf_counter() - wall}
        print(json.dumps({"sampled": sampled, **times}), flush=True)


if __name__ == "__main__":
    main()
