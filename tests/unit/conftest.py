"""What unit tests share: a policy of a few thousand random weights."""

from collections.abc import Callable
from typing import Any

import pytest

from stepsearch.models import ModelTokenizer, StepSearchModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> ModelTokenizer:
    return ModelTokenizer(build_tiny_tokenizer(), "question")


@pytest.fixture
def policy(random_policy: Callable[..., Any], tokenizer: ModelTokenizer) -> StepSearchModel:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    causal_lm = random_policy(len(tokenizer), max_position_embeddings=64, tie_word_embeddings=True, **sizes)
    return StepSearchModel(causal_lm, tokenizer)
