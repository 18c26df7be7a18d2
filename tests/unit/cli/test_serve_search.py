import sys
from pathlib import Path

import pytest

from stepsearch.cli.command_line import parse
from stepsearch.cli.main import main
from stepsearch.cli.serve_search import TOKEN_VARIABLE, search_settings, server_settings
from stepsearch.errors import DataError
from stepsearch.serving import ServerSettings


def test_a_knowledge_base_is_searched_with_bm25(tmp_path: Path) -> None:
    settings = search_settings(parse(["serve-search", "--knowledge-base", str(tmp_path)]))
    assert (settings.engine_type, settings.knowledge_base) == ("bm25", str(tmp_path))


def test_an_engine_that_is_named_searches_it(tmp_path: Path) -> None:
    args = parse(["serve-search", f"search.knowledge_base={tmp_path}", "search.engine_type=mock", "search.top_k=7"])
    settings = search_settings(args)
    assert (settings.engine_type, settings.knowledge_base) == ("mock", str(tmp_path))
    assert server_settings(args, settings).top_k == 7


def test_an_engine_may_need_no_knowledge_base() -> None:
    assert search_settings(parse(["serve-search", "search.engine_type=mock"])).knowledge_base is None


def test_a_knowledge_base_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none is not there: name another folder, or make it with stepsearch index$"):
        search_settings(parse(["serve-search", "--knowledge-base", str(tmp_path / "none")]))


def test_flags_have_the_servers_own_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    args = parse(["serve-search"])
    assert server_settings(args, search_settings(args)) == ServerSettings()


def test_the_token_comes_from_the_flag_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "from the environment")
    for flags, token in (([], "from the environment"), (["--token", "from the flag"], "from the flag")):
        args = parse(["serve-search", *flags])
        assert server_settings(args, search_settings(args)).token == token


def test_a_failed_search_is_tried_again_only_where_that_is_asked_for() -> None:
    assert search_settings(parse(["serve-search"])).retries == 0
    assert search_settings(parse(["serve-search", "search.retries=1"])).retries == 1


@pytest.mark.parametrize("flag", ["--mcp", "--mcp-http"])
def test_mcp_without_its_package_is_refused_before_anything_listens(
    flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "stepsearch.serving.mcp_server", raising=False)
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    assert main(["serve-search", flag, "search.engine_type=mock"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert 'pip install "stepsearch[mcp]"' in said.err
