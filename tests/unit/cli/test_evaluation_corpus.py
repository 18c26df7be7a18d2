"""Which documents an evaluation searches: the files' own contexts, unless the user names others."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from stepsearch.cli.assembly import settings_of_model
from stepsearch.cli.evaluate import choose_corpus
from stepsearch.config import Config
from stepsearch.data import Benchmark, KnowledgeBase
from stepsearch.errors import DataError
from stepsearch.search import SearchEngine
from stepsearch.types import Passage, Question

PASSAGES = [Passage.from_text("a red fox"), Passage.from_text("a brown hen")]
QUESTIONS = [Question("1", "Who?", ("me",))]
Choose = Callable[..., tuple[Config, SearchEngine | None, str]]


@pytest.fixture
def choose(tmp_path: Path) -> Choose:
    """Choose the corpus for a model that was trained on a knowledge base of three passages, and the file c.yaml."""
    trained_on = tmp_path / "trained_on"
    KnowledgeBase.create(trained_on, [Passage.from_text(text) for text in ("one", "two", "three")])
    record = {"search": {"engine_type": "bm25", "knowledge_base": str(trained_on)}}
    (tmp_path / "stepsearch.json").write_text(json.dumps(record))

    def choose(*overrides: str, flag: Path | None = None, file: str = "", passages: list[Passage] = PASSAGES):
        (tmp_path / "c.yaml").write_text(file)
        args = Namespace(config=tmp_path / "c.yaml", overrides=list(overrides), knowledge_base=flag)
        config = settings_of_model(str(tmp_path), args.config, args.overrides, args.knowledge_base)
        return choose_corpus(args, config, [Benchmark("musique", QUESTIONS, passages)])

    return choose


@pytest.mark.parametrize("file", ["", "search: {engine_type: bm25}"])
def test_the_files_own_contexts_not_what_the_model_remembers(choose: Choose, file: str) -> None:
    config, engine, line = choose(file=file)
    assert engine is not None
    assert [passage.text for passage in engine.search_batch(["fox"], 3)[0]] == ["a red fox"]
    assert line == "search: bm25 over the 2 passages of the benchmark files' own contexts"
    assert (config.search.engine_type, config.search.knowledge_base) == ("bm25", None)


def test_a_knowledge_base_that_the_user_names(choose: Choose, tmp_path: Path) -> None:
    other = tmp_path / "other"
    KnowledgeBase.create(other, PASSAGES)
    setting = f"search.knowledge_base={other}"
    for chosen in (choose(flag=other), choose(setting), choose(file=f"search: {{knowledge_base: {other}}}")):
        config, engine, line = chosen
        assert engine is None
        assert config.search.knowledge_base == str(other)
        assert line == f"search: bm25, knowledge base {other} (2 passages)"


@pytest.mark.parametrize("chosen", [{"file": "search: {engine_type: mock}"}, {}])
def test_an_engine_that_the_user_names(choose: Choose, chosen: dict[str, str]) -> None:
    config, engine, _ = choose(*(() if chosen else ("search.engine_type=mock",)), **chosen)
    assert engine is None
    assert config.search.engine_type == "mock"


def test_without_contexts_a_corpus_has_to_be_named(choose: Choose) -> None:
    with pytest.raises(DataError, match="--knowledge-base DIR"):
        choose(passages=[])
