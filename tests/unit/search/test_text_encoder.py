"""Vectors of texts: pooling by hand, and a tiny model against its plain forward pass."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepsearch.config import DenseSearchSettings
from stepsearch.errors import SearchError
from stepsearch.search.encoder import in_batches
from stepsearch.search.text_encoder import TextEncoder, pooled
from stepsearch.types import Passage

WORDS = "query : passage red fox hen title"


def load(folder: Path, **settings: Any) -> TextEncoder:
    return TextEncoder.load(str(folder), DenseSearchSettings(**settings))


@pytest.fixture
def folder(word_encoder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A tiny model's folder, to write into."""
    return shutil.copytree(word_encoder(WORDS), tmp_path / "model")


@pytest.fixture
def scrambled(folder: Path) -> Path:
    """The same with random weights, so that every token counts."""
    import torch
    from transformers import BertModel

    torch.manual_seed(0)
    model = BertModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    model.save_pretrained(folder)
    return folder


def sentence_files(folder: Path, pooling: dict[str, Any], *kinds: str, **prompts: str) -> None:
    """Write what sentence-transformers writes."""
    paths = {"Pooling": "1_Pooling"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": paths.get(kind, "")} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 9}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))


def test_loading_draws_no_bar(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    were_on = logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    try:
        load(folder)
        assert capfd.readouterr().err == ""
        # Other bars stay as they were.
        assert logging.is_progress_bar_enabled()
    finally:
        if not were_on:
            logging.disable_progress_bar()


def test_pooling_by_hand() -> None:
    import torch

    states = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pooled(states, mask, "mean").tolist() == [[2.0, 2.0]]
    assert pooled(states, mask, "cls").tolist() == [[1.0, 0.0]]
    assert pooled(states, mask, "last").tolist() == [[3.0, 4.0]]


def test_batches_of_similar_length_come_back_in_order() -> None:
    batches: list[list[str]] = []

    def encode(texts: list[str]) -> Any:
        batches.append(texts)
        return np.array([[len(text)] for text in texts], dtype=np.float32)

    vectors = in_batches(["aa", "a", "aaaa", "aaa", ""], len, 2, encode)
    assert vectors[:, 0].tolist() == [2, 1, 4, 3, 0]
    assert batches == [["aaaa", "aaa"], ["aa", "a"], [""]]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_a_padded_batch_gives_what_each_text_gives_alone(scrambled: Path, pooling: str) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    encoder = load(scrambled, pooling=pooling, normalize=False)
    texts = ["red", "the red fox : hen", "hen hen"]
    model, tokenizer = AutoModel.from_pretrained(scrambled).eval(), AutoTokenizer.from_pretrained(scrambled)
    pick = {"mean": lambda h: h.mean(0), "cls": lambda h: h[0], "last": lambda h: h[-1]}[pooling]
    for vector, text in zip(encoder.encode_queries(texts), texts, strict=True):
        with torch.no_grad():
            alone = pick(model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]).numpy()
        assert vector == pytest.approx(alone, abs=1e-4)


def test_vectors_have_length_one_and_words_in_common_decide(folder: Path) -> None:
    encoder = load(folder)
    fox, both, hen = encoder.encode_queries(["red fox", "red hen", "hen"])
    assert np.linalg.norm([fox, both, hen], axis=1) == pytest.approx([1, 1, 1])
    assert float(fox @ both) == pytest.approx(0.5, abs=0.01)
    assert float(both @ hen) == pytest.approx(0.5**0.5, abs=0.01)
    assert float(fox @ hen) == pytest.approx(0, abs=0.02)


def test_prefixes_and_titles_are_read(folder: Path) -> None:
    prefixed = load(folder, query_prefix="query : ", passage_prefix="passage : ")
    plain = load(folder)
    assert prefixed.encode_queries(["fox"]) == pytest.approx(plain.encode_queries(["query : fox"]))
    passage = Passage("1", "fox", "title")
    assert prefixed.encode_passages([passage]) == pytest.approx(plain.encode_queries(["passage : title fox"]))


def test_what_a_sentence_transformers_folder_says_holds_unless_settings_do(folder: Path) -> None:
    sentence_files(folder, {"pooling_mode_cls_token": True}, "Transformer", "Pooling", query="q: ", document="d: ")
    said = {"pooling": "cls", "normalize": False, "query_prefix": "q: ", "passage_prefix": "d: ", "max_tokens": 9}
    assert load(folder).facts == said
    settings = {"pooling": "mean", "normalize": True, "query_prefix": "", "passage_prefix": "p", "max_tokens": 8}
    assert load(folder, **settings).facts == settings
    sentence_files(folder, {"pooling_mode": "lasttoken"}, "Transformer", "Pooling", "Normalize")
    assert load(folder).facts == said | {
        "pooling": "last",
        "normalize": True,
        "query_prefix": "",
        "passage_prefix": "",
    }


def test_a_plain_model_is_pooled_by_its_mean_and_reads_what_it_can(folder: Path) -> None:
    plain = {"pooling": "mean", "normalize": True, "query_prefix": "", "passage_prefix": "", "max_tokens": 32}
    assert load(folder).facts == plain
    assert load(folder).encode_queries(["red " * 900]) == pytest.approx(load(folder).encode_queries(["red " * 30]))
    with pytest.raises(SearchError, match=r"max_tokens=33: .* reads 32 at most"):
        load(folder, max_tokens=33)


def test_what_cannot_be_computed_is_refused(folder: Path, tmp_path: Path) -> None:
    sentence_files(folder, {}, "Transformer", "Pooling", "Dense")
    with pytest.raises(SearchError, match="a part of the kind Dense"):
        load(folder)
    sentence_files(folder, {"pooling_mode_max_tokens": True}, "Transformer", "Pooling")
    with pytest.raises(SearchError, match="pools by pooling_mode_max_tokens"):
        load(folder)
    with pytest.raises(SearchError, match=r"search\.dense\.encoder: .* cannot be loaded"):
        load(tmp_path)
