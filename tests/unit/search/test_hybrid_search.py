"""Fused rankings, by hand and by a tiny cross-encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stepsearch.config import SearchSettings, load_config
from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.errors import ConfigError, SearchError
from stepsearch.search import BM25SearchEngine, HybridSearchEngine, MockSearchEngine, SearchEngine, build_search_engine
from stepsearch.search.engine_identity import engine_identity
from stepsearch.search.rank_fusion import fuse
from stepsearch.types import Passage


def passages(letters: str, prefix: str = "") -> list[Passage]:
    return [Passage(f"{prefix}{letter}", f"text {letter}") for letter in letters]


def order(found: Sequence[Passage]) -> str:
    return "".join(passage.text[-1] for passage in found)


def test_fused_scores_by_hand() -> None:
    fused = fuse([passages("abc"), passages("cad")], rank_constant=60)
    assert order(fused) == "acbd"
    assert [passage.score for passage in fused] == pytest.approx([1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62, 1 / 63])


def test_a_small_constant_favours_what_is_first_somewhere() -> None:
    rankings = [passages("axyb"), passages("xzb"), passages("wzb")]
    assert order(fuse(rankings, rank_constant=60))[0] == "b"  # 1/64 + 1/63 + 1/63: in all three
    assert order(fuse(rankings, rank_constant=0.1))[0] == "x"  # 1/2.1 + 1/1.1


def test_equal_scores_keep_the_order_of_engines() -> None:
    assert order(fuse([passages("ab"), passages("cd")])) == "acbd"
    assert order(fuse([passages("cd"), passages("ab")])) == "cadb"


def test_equal_content_is_one_passage_whatever_its_id_and_counts_once_a_ranking() -> None:
    fused = fuse([passages("aab", prefix="1"), passages("ab", prefix="2")], rank_constant=60)
    assert [passage.id for passage in fused] == ["1a", "1b"]
    assert fused[0].score == pytest.approx(2 / 61)
    assert fused[1].score == pytest.approx(2 / 62)


def test_equal_ids_of_different_content_are_two() -> None:
    assert len(fuse([[Passage("7", "one")], [Passage("7", "two")]])) == 2


def test_nothing_found_anywhere() -> None:
    assert fuse([[], []]) == []
    assert fuse([]) == []


def canned(letters: str) -> MockSearchEngine:
    return MockSearchEngine({"q": passages(letters)})


def test_engines_are_asked_for_more_than_is_returned() -> None:
    engine = HybridSearchEngine([canned("abcde"), canned("fghie")], candidates=5)
    assert order(engine.search("q", 2)) == "ea"
    assert order(HybridSearchEngine([canned("abcde"), canned("fghie")], candidates=1).search("q", 3)) == "afb"


def test_a_failing_engine_fails_the_search() -> None:
    class Down(SearchEngine):
        def search(self, query: str, top_k: int = 3) -> list[str]:
            raise SearchError("down")

    with pytest.raises(SearchError, match="down"):
        HybridSearchEngine([canned("a"), Down()]).search("q")


def test_all_engines_are_closed_even_if_one_fails_to() -> None:
    closed: list[int] = []

    class Closable(MockSearchEngine):
        def close(self) -> None:
            closed.append(1)
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - the engine's own
        HybridSearchEngine([Closable(), Closable()]).close()
    assert len(closed) == 2


class Lengths:
    """Prefers passages by a given order of letters."""

    def __init__(self, preferred: str) -> None:
        self.preferred = preferred
        self.read: list[int] = []

    def scores(self, query: str, passages: Sequence[Passage]) -> list[float]:
        self.read.append(len(passages))
        return [-float(self.preferred.index(passage.text[-1])) for passage in passages]


def test_the_reranker_orders_the_best_of_the_fused() -> None:
    reranker = Lengths("edcba")
    engine = HybridSearchEngine([canned("abcde")], reranker=reranker, rerank_candidates=3)
    assert order(engine.search("q", 2)) == "cb"
    assert order(engine.search("q", 5)) == "edcba"
    assert reranker.read == [3, 5]
    assert [passage.score for passage in engine.search("q", 2)] == [-2.0, -3.0]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Saves tiny random cross-encoders."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    def save(labels: int) -> Path:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "q", "text", *"abcde"]
        backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=32, **special)
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        model = BertForSequenceClassification(
            BertConfig(vocab_size=len(words), max_position_embeddings=32, num_labels=labels, **sizes)
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.5)
        folder = tmp_path_factory.mktemp("cross_encoder")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.mark.parametrize("labels", [1, 2])
def test_a_real_cross_encoder_scores_as_its_model_does(cross_encoder: Any, labels: int) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from stepsearch.search.cross_encoder import CrossEncoder

    folder = cross_encoder(labels)
    scores = CrossEncoder.load(str(folder)).scores("q", [*passages("ae"), Passage("t", "text c", "b")])
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for score, text in zip(scores, ["text a", "text e", "b\ntext c"], strict=True):
        with torch.no_grad():
            logits = model(**tokenizer("q", text, return_tensors="pt")).logits[0]
        assert score == pytest.approx(float(logits[0] if labels == 1 else logits[1] - logits[0]), abs=1e-5)
    assert len(set(scores)) == 3


def test_texts_longer_than_the_model_reads_are_cut(cross_encoder: Any) -> None:
    from stepsearch.search.cross_encoder import CrossEncoder

    encoder = CrossEncoder.load(str(cross_encoder(1)))
    assert len(encoder.scores("q " * 500, [Passage("1", "text a " * 900)])) == 1
    assert encoder.scores("q", []) == []


def test_what_is_no_cross_encoder_is_refused(cross_encoder: Any, tmp_path: Path) -> None:
    from stepsearch.search.cross_encoder import CrossEncoder

    with pytest.raises(SearchError, match=r"search\.hybrid\.reranker: .* has 3 labels"):
        CrossEncoder.load(str(cross_encoder(3)))
    with pytest.raises(SearchError, match=r"search\.hybrid\.reranker: the cross-encoder .* cannot be loaded"):
        CrossEncoder.load(str(tmp_path))


class TestFromSettings:
    def test_parts_share_the_section_but_for_what_they_say(self) -> None:
        overrides = [
            "search.engine_type=hybrid",
            "search.timeout_seconds=7",
            "search.remote.batch_size=9",
            "search.cache_dir=/c",
            "search.hybrid.engines=[bm25, {engine_type: remote, retries: 5, remote: {url: http://b/retrieve}}]",
        ]
        first, second = load_config(None, overrides).search.hybrid_parts()
        assert (first.engine_type, first.timeout_seconds, first.retries, first.cache_dir) == ("bm25", 7, 2, None)
        assert (second.remote.url, second.remote.batch_size, second.retries) == ("http://b/retrieve", 9, 5)

    @pytest.mark.parametrize(
        ("engines", "problem"),
        [
            ("[]", r"search\.hybrid\.engines=\[bm25,wiki\]"),
            ("[bm25, hybrid]", r"search\.hybrid\.engines\[1\]: name an engine other than hybrid"),
            ("[{retries: 1}]", r"search\.hybrid\.engines\[0\]: name an engine"),
            ("[{engine_type: bm25, retires: 1}]", r"search\.hybrid\.engines\[0\]\.retires: Extra inputs"),
        ],
    )
    def test_parts_that_are_wrong(self, engines: str, problem: str) -> None:
        with pytest.raises(ConfigError, match=problem):
            load_config(None, ["search.engine_type=hybrid", f"search.hybrid.engines={engines}"])

    def test_two_knowledge_bases_and_a_reranker(self, tmp_path: Path, cross_encoder: Any) -> None:
        for name, letters in (("one", "abc"), ("two", "cde")):
            KnowledgeBase.create(tmp_path / name, passages(letters))
            BM25SearchEngine.build(tmp_path / name)
        two = {"engine_type": "bm25", "knowledge_base": str(tmp_path / "two")}
        hybrid = {"engines": ["bm25", two]}
        settings = SearchSettings.model_validate({"engine_type": "hybrid", "hybrid": hybrid})
        engine = build_search_engine(settings, tmp_path / "one")
        assert order(engine.search_batch(["text"], 9)[0]) == "cabde"
        assert engine_identity(settings, tmp_path / "one") != engine_identity(settings, tmp_path / "two")

        reranked = {"engines": ["bm25", two], "reranker": str(cross_encoder(1))}
        settings = SearchSettings.model_validate({"engine_type": "hybrid", "hybrid": reranked})
        found = build_search_engine(settings, tmp_path / "one").search_batch(["text"], 9)[0]
        assert sorted(order(found)) == list("abcde")
        scores = [passage.score or 0 for passage in found]
        assert scores == sorted(scores, reverse=True)
