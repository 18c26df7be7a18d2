"""What unit tests share: a policy of a few thousand random weights, and a user with few permissions."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stepsearch.models import ModelTokenizer, StepSearchModel
from stepsearch.models.tiny_tokenizer import build_tiny_tokenizer

_NOBODY = 65534


@pytest.fixture(scope="session")
def tokenizer() -> ModelTokenizer:
    return ModelTokenizer(build_tiny_tokenizer(), "question")


@pytest.fixture
def policy(random_policy: Callable[..., Any], tokenizer: ModelTokenizer) -> StepSearchModel:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
    causal_lm = random_policy(len(tokenizer), max_position_embeddings=64, tie_word_embeddings=True, **sizes)
    return StepSearchModel(causal_lm, tokenizer)


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """An own folder for a test that is not to run as root, whom no permission stops."""
    user = os.geteuid()
    # Not below tmp_path, which lies in a folder of root's alone.
    with tempfile.TemporaryDirectory() as folder:
        if user == 0:
            os.chown(folder, _NOBODY, -1)
            os.seteuid(_NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)
