"""A policy's folder as verl loads one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def chat_tokenizer(tokenizer_builder: Callable[..., Any]) -> Any:
    return tokenizer_builder(style="chat", template=CHAT)


@pytest.fixture(scope="session")
def model_folder(
    chat_tokenizer: Any, random_policy: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("model")
    random_policy(len(chat_tokenizer)).save_pretrained(folder)
    chat_tokenizer.hf.save_pretrained(folder)
    return folder
