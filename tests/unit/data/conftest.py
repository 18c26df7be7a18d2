"""Small records in the benchmarks' formats."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def musique_record() -> dict[str, Any]:
    return {
        "id": "2hop__1_2",
        "paragraphs": [
            {"idx": 0, "title": "Elsewhere", "paragraph_text": "Nothing to see.", "is_supporting": False},
            {"idx": 1, "title": "Up", "paragraph_text": "Up was written by Ann Lee.", "is_supporting": True},
            {"idx": 2, "title": "Ann Lee", "paragraph_text": "Ann Lee was born in Rome.", "is_supporting": True},
        ],
        "question": "Where was the writer of Up born?",
        "question_decomposition": [
            {"id": 1, "question": "Up >> screenwriter", "answer": "Ann Lee", "paragraph_support_idx": 1},
            {"id": 2, "question": "Where was #1 born?", "answer": "Rome", "paragraph_support_idx": 2},
        ],
        "answer": "Rome",
        "answer_aliases": ["Roma", "Rome"],
        "answerable": True,
    }


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    def write(*records: Any, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_list(tmp_path: Path) -> Callable[..., Path]:
    """Writes records as one JSON list."""

    def write(*records: Any) -> Path:
        path = tmp_path / "data.json"
        path.write_text(json.dumps(records), encoding="utf-8")
        return path

    return write
