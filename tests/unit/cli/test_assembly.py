"""Which corpus a command searches, and whose settings it follows."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from stepsearch.cli import assembly
from stepsearch.cli.assembly import settings_of_model, settings_to_play
from stepsearch.cli.searching import find_corpus
from stepsearch.config import SearchSettings, load_config
from stepsearch.data import KnowledgeBase
from stepsearch.errors import DataError, ModelError
from stepsearch.models.step_search_model import model_record
from stepsearch.types import Passage


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """A data file with a knowledge base of two passages beside it."""
    KnowledgeBase.create(tmp_path / "knowledge_base", [Passage.from_text("one"), Passage.from_text("two")])
    return tmp_path / "train.json"


def test_a_knowledge_base_beside_the_data_is_used_and_named(data_file: Path) -> None:
    settings, line = find_corpus(SearchSettings(), data_file, engine_asked=False)
    folder = data_file.parent / "knowledge_base"
    assert (settings.engine_type, settings.knowledge_base) == ("bm25", str(folder))
    assert line == f"search: bm25, knowledge base {folder} beside the data file (2 passages)"


def test_an_engine_that_was_asked_for_stays(data_file: Path) -> None:
    for name, words in (("mock", "mock"), ("wiki", "wiki, en.wikipedia.org")):
        settings, line = find_corpus(SearchSettings(engine_type=name), data_file, engine_asked=True)
        assert settings == SearchSettings(engine_type=name)
        assert line == f"search: {words}"


def test_an_engine_that_a_config_file_names_stays(data_file: Path) -> None:
    settings, _ = find_corpus(SearchSettings(engine_type="mock"), data_file, engine_asked=False)
    assert (settings.engine_type, settings.knowledge_base) == ("mock", None)


def test_bm25_takes_what_lies_beside_the_data(data_file: Path) -> None:
    settings, _ = find_corpus(SearchSettings(engine_type="bm25"), data_file, engine_asked=True)
    assert settings.knowledge_base == str(data_file.parent / "knowledge_base")


def test_dense_search_takes_it_too(data_file: Path) -> None:
    settings, _ = find_corpus(SearchSettings(engine_type="dense"), data_file, engine_asked=True)
    assert settings.knowledge_base == str(data_file.parent / "knowledge_base")


def test_hybrid_takes_what_lies_beside_the_data_for_its_bm25(data_file: Path) -> None:
    for engines, found in ((["bm25", "mock"], str(data_file.parent / "knowledge_base")), (["mock"], None)):
        hybrid = SearchSettings.model_validate({"engine_type": "hybrid", "hybrid": {"engines": engines}})
        settings, _ = find_corpus(hybrid, data_file, engine_asked=True)
        assert (settings.engine_type, settings.knowledge_base) == ("hybrid", found)


def test_an_engine_without_a_knowledge_base_is_given_none(data_file: Path) -> None:
    remembered = SearchSettings(engine_type="remote", knowledge_base="/moved/away")
    settings, line = find_corpus(remembered, data_file, engine_asked=True)
    assert settings.knowledge_base is None
    assert line == "search: remote, http://127.0.0.1:8000/retrieve"


def test_a_named_knowledge_base_wins(data_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "kb"
    KnowledgeBase.create(other, [Passage.from_text("three")])
    settings, line = find_corpus(SearchSettings(knowledge_base=str(other)), data_file, engine_asked=False)
    assert (settings.engine_type, settings.knowledge_base) == ("bm25", str(other))
    assert line.endswith("(1 passages)")
    custom = SearchSettings(knowledge_base=str(other), engine_type="custom")
    assert find_corpus(custom, data_file, engine_asked=True)[0].engine_type == "custom"


def test_a_named_knowledge_base_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_corpus(SearchSettings(knowledge_base=str(tmp_path / "kb")), None, engine_asked=False)


def test_without_any_nothing_changes(tmp_path: Path) -> None:
    assert find_corpus(SearchSettings(), tmp_path / "train.json", engine_asked=False) == (
        SearchSettings(),
        "search: wiki, en.wikipedia.org",
    )


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model's folder that remembers two settings."""
    folder = tmp_path / "model"
    folder.mkdir()
    record = {"grammar": ["<think>"], "prompt": "question", "search": {"top_k": 1}, "rollout": {"max_turn_tokens": 40}}
    (folder / "stepsearch.json").write_text(json.dumps(record))
    return str(folder)


def test_a_model_remembers_and_the_user_decides(model: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("search: {top_k: 2}")
    assert settings_of_model(model, None, []).search.top_k == 1
    assert settings_of_model(model, file, []).search.top_k == 2
    config = settings_of_model(model, file, ["search.top_k=3", "model.dtype=bfloat16"])
    assert (config.search.top_k, config.rollout.max_turn_tokens) == (3, 40)
    assert (config.model.name, config.model.dtype) == (model, "bfloat16")


def test_a_model_is_played_on_a_gpu_as_training_sampled_it(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Path(model) / "stepsearch.json"

    def dtypes(overrides: Sequence[str] = ()) -> list[str]:
        """Return the type that weights are loaded in on a CPU, then on a GPU."""
        found = []
        for device in ("cpu", "cuda"):
            monkeypatch.setattr(assembly, "chosen_device", lambda name, device=device: torch.device(device))
            found.append(settings_to_play(model, None, overrides).model.dtype)
        return found

    for overrides, on_gpu in (
        ([], "float32"),
        (["training.mixed_precision=bf16"], "bfloat16"),
        (["lora.rank=4"], "bfloat16"),
    ):
        record.write_text(json.dumps(model_record(load_config(None, overrides))))
        assert dtypes() == ["float32", on_gpu]
        assert dtypes(["model.dtype=float32"]) == ["float32", "float32"]
        assert settings_of_model(model, None, []).model.dtype == "float32"
    record.write_text(json.dumps({"sampled_in": ["what no version writes"]}))
    assert dtypes() == ["float32", "float32"]


def test_a_knowledge_base_flag_is_a_path_whatever_it_looks_like(model: str) -> None:
    settings = settings_of_model(model, None, ["search.knowledge_base=other"], Path("2024"))
    assert settings.search.knowledge_base == "2024"


def test_a_setting_that_a_model_remembers_wrongly_is_named_with_its_file(model: str) -> None:
    (Path(model) / "stepsearch.json").write_text('{"search": {"top_q": 1}}')
    with pytest.raises(
        ModelError, match=r"model/stepsearch\.json: unknown key search\.top_q; did you mean search\.top_k"
    ):
        settings_of_model(model, None, ["search.top_k=3"])


def test_a_model_cannot_name_programs_addresses_and_tokens(model: str) -> None:
    remote = {"url": "http://elsewhere/retrieve", "token_variable": "SECRET", "batch_size": 7}
    mcp = {"command": ["rm", "-r", "."], "environment": ["SECRET"], "tool": "find", "url": "http://elsewhere/mcp"}
    search = {
        "engine_type": "hybrid",
        "cache_dir": "/elsewhere",
        "remote": remote,
        "mcp": mcp,
        "wiki": {"language": "de", "url": "http://elsewhere/api.php"},
        "hybrid": {"engines": [{"engine_type": "mcp", "mcp": mcp}, {"engine_type": "remote", "remote": remote}]},
    }
    (Path(model) / "stepsearch.json").write_text(json.dumps({"search": search}))

    settings = settings_of_model(model, None, []).search
    for some in (settings, *settings.hybrid_parts()):
        assert (some.mcp.command, some.mcp.environment, some.mcp.url, some.mcp.tool) == ((), (), None, "find")
        assert some.remote == SearchSettings().remote.model_copy(update={"batch_size": 7})
        assert (some.wiki.language, some.wiki.url, some.cache_dir) == ("de", None, None)
    said = settings_of_model(model, None, ["search.remote.url=http://mine/retrieve"]).search
    assert said.remote.url == "http://mine/retrieve"
