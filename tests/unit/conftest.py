"""What unit tests share: a policy of a few thousand random weights."""

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from stepsearch.models import ModelTokenizer, StepSearchModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer


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
