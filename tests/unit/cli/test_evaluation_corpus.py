"""Which documents an evaluation searches."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest

from stepsearch.cli.assembly import settings_of_model
from stepsearch.cli.evaluated_corpus import choose_corpus
from stepsearch.config import Config
from stepsearch.data import Benchmark, KnowledgeBase
from stepsearch.errors import ConfigError, DataError
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

    def choose(
        *overrides: str,
        flag: Path | None = None,
        file: str = "",
        passages: list[Passage] = PASSAGES,
        data: list[Path] | None = None,
        folder: Path | None = None,
    ):
        (tmp_path / "c.yaml").write_text(file)
        args = Namespace(
            config=tmp_path / "c.yaml", overrides=list(overrides), knowledge_base=flag, data=data, musique_dir=folder
        )
        config = settings_of_model(str(tmp_path), args.config, args.overrides, args.knowledge_base)
        return choose_corpus(args, config, [Benchmark("musique", QUESTIONS, passages)])

    return choose


@pytest.mark.parametrize("file", ["", "search: {engine_type: bm25}"])
def test_the_files_own_contexts_not_what_the_model_remembers(choose: Choose, file: str) -> None:
    config, engine, line = choose(file=file)
    assert engine is not None
    assert [passage.text for passage in engine.search_batch(["fox"], 3)[0]] == ["a red fox"]
    assert line == "search: bm25 over the 2 passages of the files' own contexts"
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


@pytest.fixture
def with_a_base(tmp_path: Path) -> Path:
    """A folder of questions' files with a knowledge base of one passage beside them."""
    KnowledgeBase.create(tmp_path / "data" / "knowledge_base", [Passage.from_text("a green frog")])
    return tmp_path / "data"


def test_the_knowledge_base_beside_the_users_own_files(choose: Choose, with_a_base: Path) -> None:
    base = with_a_base / "knowledge_base"
    config, engine, line = choose(data=[with_a_base / "dev.json", with_a_base / "test.json"])
    assert engine is None
    assert (config.search.engine_type, config.search.knowledge_base) == ("bm25", str(base))
    assert line == f"search: bm25, knowledge base {base} beside the data file (1 passages)"
    config, _, _ = choose("search.engine_type=dense", data=[with_a_base / "dev.json"])
    assert (config.search.engine_type, config.search.knowledge_base) == ("dense", str(base))


def test_what_the_user_names_comes_before_the_knowledge_base_beside(choose: Choose, with_a_base: Path) -> None:
    other = with_a_base / "other"
    KnowledgeBase.create(other, PASSAGES)
    data = [with_a_base / "dev.json"]
    assert choose(data=data, flag=other)[0].search.knowledge_base == str(other)
    assert choose("search.engine_type=mock", data=data)[0].search.knowledge_base is None


def test_files_without_a_knowledge_base_are_searched_in_their_contexts(choose: Choose, tmp_path: Path) -> None:
    assert choose(data=[tmp_path / "nowhere" / "dev.json"])[1] is not None


@pytest.mark.parametrize("beside", ["benchmarks", "a file without one"])
def test_a_knowledge_base_of_a_part_is_not_taken_for_all(choose: Choose, with_a_base: Path, beside: str) -> None:
    data, folder = [with_a_base / "dev.json"], None
    if beside == "benchmarks":
        folder = with_a_base / "raw"
    else:
        data.append(with_a_base / "elsewhere" / "dev.json")
    with pytest.raises(ConfigError, match="not of all: name one for all with --knowledge-base DIR"):
        choose(data=data, folder=folder)
