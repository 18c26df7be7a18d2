"""TRL's side of `training_step.py`: one GRPO step for each line on standard input, its cost on standard output.

Runs in an environment of its own (trl 1.16.0, torch 2.13.0, transformers 5.23.0) and reads what both sides share from
a folder: the model, its tokenizer, and `workload.json`.
"""

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

GROUP = 8
KL_COEFFICIENT = 1e-3


@dataclass
class Clock:
    """Seconds of processor and of wall time; `rollout` of the running step, in the same two."""

    rollout: list[float] = field(default_factory=list)
    started: list[float] = field(default_factory=list)

    @staticmethod
    def now() -> list[float]:
        """Return processor and wall time so far."""
        return [time.process_time(), time.perf_counter()]

    @staticmethod
    def since(started: list[float]) -> list[float]:
        """Return processor and wall time since then."""
        return [now - then for now, then in zip(Clock.now(), started, strict=True)]


class Episodes:
    """TRL's `rollout_func`: plays the drawn episodes with `generate`, the whole left-padded context in each turn."""

    def __init__(self, workload: dict[str, Any], clock: Clock) -> None:
        self.workload, self.clock = workload, clock

    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """Return token ids, and a mask that keeps what the environment wrote out of the loss."""
        started = Clock.now()
        contexts = [list(prompt) for prompt in self.workload["prompts"]]
        masks: list[list[int]] = [[] for _ in contexts]
        for turn, limits in enumerate(zip(*self.workload["turn_tokens"], strict=True)):
            sampled = self._sample(trainer, contexts, max(limits))
            for index, limit in enumerate(limits):
                observed = [*self.workload["observations"][index], []][turn]
                contexts[index] += sampled[index][:limit] + observed
                masks[index] += [1] * limit + [0] * len(observed)
        self.clock.rollout = Clock.since(started)
        starts = [len(prompt) for prompt in self.workload["prompts"]]
        return {
            "prompt_ids": self.workload["prompts"],
            "completion_ids": [context[start:] for context, start in zip(contexts, starts, strict=True)],
            "logprobs": None,
            "env_mask": masks,
        }

    def _sample(self, trainer: GRPOTrainer, contexts: list[list[int]], tokens: int) -> list[list[int]]:
        longest = max(map(len, contexts))
        ids = torch.tensor([[0] * (longest - len(context)) + context for context in contexts])
        mask = torch.tensor([[0] * (longest - len(context)) + [1] * len(context) for context in contexts])
        model = trainer.accelerator.unwrap_model(trainer.model)
        model.eval()
        with torch.no_grad():
            output = model.generate(
                input_ids=ids, attention_mask=mask, do_sample=True, top_k=0, max_new_tokens=tokens, pad_token_id=0
            )
        model.train()
        return output[:, longest:].tolist()


class StepByStep(TrainerCallback):
    """Lets a step begin when a line has come, and reports it when it is over."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for a line; without one there is nothing more to do."""
        if not sys.stdin.readline():
            os._exit(0)
        self.clock.started = Clock.now()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report processor and wall time of the rollout and of the whole step."""
        report({"rollout": self.clock.rollout, "step": Clock.since(self.clock.started)})


def report(record: dict[str, Any]) -> None:
    """Write one line of JSON, marked, since libraries write to standard output too."""
    print("REPORT " + json.dumps(record), flush=True)


def main() -> None:
    """Build the trainer, and train for as long as lines come."""
    folder = Path(sys.argv[1])
    accumulation = int(sys.argv[2])
    torch.set_num_threads(1)
    workload = json.loads((folder / "workload.json").read_text())
    episodes = len(workload["prompts"])
    causal_lm = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # Nothing ends a turn but its length.
    causal_lm.generation_config.eos_token_id = None
    settings = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=episodes // accumulation,
        gradient_accumulation_steps=accumulation,
        num_generations=GROUP,
        beta=KL_COEFFICIENT,
        learning_rate=1e-6,
        max_steps=10_000,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        shuffle_dataset=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    clock = Clock()
    trainer = GRPOTrainer(
        model=causal_lm,
        reward_funcs=lambda completions, **_: [float(index % 2) for index in range(len(completions))],
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": ["a question"] * (episodes // GROUP)}),
        processing_class=AutoTokenizer.from_pretrained(folder),
        callbacks=[StepByStep(clock)],
        rollout_func=Episodes(workload, clock),
    )
    report({"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__})
    trainer.train()


if __name__ == "__main__":
    main()
