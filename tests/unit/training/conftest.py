"""What the training tests share: a policy of a few thousand random weights, and episodes written by hand."""

from collections.abc import Callable

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from stepsearch.models import ModelTokenizer, StepSearchModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer
from stepsearch.types import Passage, Question, SearchStep, StopReason, SubQuestion, Trajectory


@pytest.fixture(scope="session")
def tokenizer() -> ModelTokenizer:
    return ModelTokenizer(build_tiny_tokenizer(), "question")


@pytest.fixture
def policy(tokenizer: ModelTokenizer) -> StepSearchModel:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return StepSearchModel(Qwen2ForCausalLM(config), tokenizer)


MakeTrajectory = Callable[..., Trajectory]


@pytest.fixture
def make_trajectory() -> MakeTrajectory:
    """Return a maker of episodes: two prompt tokens, a response given by its mask, one search ending at `end`."""

    def make(mask: tuple[int, ...] = (1, 1, 0, 1), end: int = 1, name: str = "a", **changes: object) -> Trajectory:
        golden = Passage("gold-" + name, f"golden text about {name}")
        question = Question(
            id=name,
            question=f"who is {name}",
            answers=("x",),
            sub_questions=(SubQuestion("s", "x", ("query",)),),
            golden_passages=(golden,),
        )
        fields: dict[str, object] = {
            "question": question,
            "prompt_ids": (5, 6),
            "response_ids": tuple(range(10, 10 + len(mask))),
            "response_mask": mask,
            "rollout_logprobs": tuple(-1.0 * bit for bit in mask),
            "steps": (SearchStep("query", (golden,), end),),
            "answer": "x",
            "format_error": None,
            "stop_reason": StopReason.ANSWERED,
        }
        return Trajectory(**{**fields, **changes})  # type: ignore[arg-type]

    return make
