"""Images and texts in one space, by a tiny random CLIP and images made here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepsearch.config import DenseSearchSettings, SearchSettings
from stepsearch.data.corpus import read_corpus, write_corpus
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import DataError, SearchError
from stepsearch.search import DenseSearchEngine, build_search_engine
from stepsearch.types import Passage

COLOURS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP with random weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "<s>", "</s>", "a", "flag", *COLOURS]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {"vocab_size": len(words), "max_position_embeddings": 16, "eos_token_id": 3, "bos_token_id": 2, **sizes}
    vision = {"image_size": 16, "patch_size": 8, **sizes}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", eos_token="</s>", model_max_length=16
    ).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three images of one caption, and a text."""
    from PIL import Image

    (tmp_path / "kb").mkdir()
    passages = [Passage("text", "a flag", "red")]
    for colour in COLOURS:
        Image.new("RGB", (20, 30), colour).save(tmp_path / f"{colour}.png")
        passages.append(Passage(colour, "a flag", image=f"{colour}.png"))
    KnowledgeBase.create(tmp_path / "kb", passages)
    return tmp_path / "kb"


def test_texts_find_images_as_the_model_scores_them(clip: Path, corpus: Path) -> None:
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    settings = DenseSearchSettings(encoder=str(clip), image_folder=str(corpus.parent))
    DenseSearchEngine.build(corpus, settings)
    found = build_search_engine(SearchSettings(engine_type="dense"), corpus).search_batch(["a red flag"], 9)[0]

    model, processor = CLIPModel.from_pretrained(clip).eval(), AutoImageProcessor.from_pretrained(clip)
    tokenizer = AutoTokenizer.from_pretrained(clip)
    pixels = processor(images=[Image.open(corpus.parent / f"{colour}.png") for colour in COLOURS], return_tensors="pt")
    with torch.no_grad():
        scored = model(**tokenizer(["a red flag", "red a flag"], padding=True, return_tensors="pt"), **pixels)
    texts = scored.text_embeds.numpy()
    expected = dict(zip(COLOURS, (scored.image_embeds.numpy() @ texts[0]).tolist(), strict=True))
    expected["text"] = float(texts[0] @ texts[1])
    assert {passage.id: passage.score for passage in found} == pytest.approx(expected, abs=1e-4)
    assert [passage.id for passage in found] == sorted(expected, key=lambda name: -expected[name])
    assert {passage.id: passage.image for passage in found} == {
        "text": None,
        **{colour: f"{colour}.png" for colour in COLOURS},
    }


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("gone.png", r"passage p: its image .*gone.png cannot be read"),
        ("red.txt", r"passage p: its image .*red.txt cannot be read"),
        ("https://example.org/red.png", "is an address, and images are read from files: download it"),
    ],
)
def test_images_that_cannot_be_read(clip: Path, tmp_path: Path, image: str, problem: str) -> None:
    KnowledgeBase.create(tmp_path / "kb", [Passage("p", "a flag", image=image)])
    (tmp_path / "kb" / "red.txt").write_text("red")
    with pytest.raises(DataError, match=problem):
        DenseSearchEngine.build(tmp_path / "kb", DenseSearchSettings(encoder=str(clip)))


def test_settings_that_have_no_effect_are_refused(clip: Path, corpus: Path) -> None:
    with pytest.raises(SearchError, match=r"search\.dense\.pooling is not for"):
        DenseSearchEngine.build(corpus, DenseSearchSettings(encoder=str(clip), pooling="mean"))


def test_images_go_through_knowledge_bases_and_corpus_files(corpus: Path, tmp_path: Path) -> None:
    passages: Any = list(KnowledgeBase.open(corpus))
    assert len(passages) == 4  # one caption, three images
    write_corpus(tmp_path / "corpus.jsonl", passages)
    assert list(read_corpus(tmp_path / "corpus.jsonl")) == passages
    assert '"image"' not in (tmp_path / "corpus.jsonl").read_text().splitlines()[0]
    assert np.load(corpus / "offsets.npy").shape == (5,)
