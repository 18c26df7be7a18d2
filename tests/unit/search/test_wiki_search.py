"""The client of MediaWiki's API against a real server that gives MediaWiki's answers, and misbehaves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from stepsearch.config import SearchSettings, load_config
from stepsearch.errors import ConfigError, SearchError, SearchUnavailableError
from stepsearch.search import CachedSearchEngine, GuardedSearch, SearchOutcome, WikiSearchEngine, build_search_engine
from stepsearch.search.patient_http import Patience
from stepsearch.search.wiki_search import plain_words
from stepsearch.types import Passage

ANSWERS = Path(__file__).parent / "mediawiki"
QUICK = Patience(timeout_seconds=0.5, retries=2, backoff_seconds=0.01, circuit_failures=100)
MILEVA = Passage.from_text("Mileva Marić was a Serbian physicist and mathematician.", "Mileva Marić")
ALBERT = Passage.from_text(
    "Albert Einstein (14 March 1879 – 18 April 1955) was a German-born theoretical physicist.", "Albert Einstein"
)


def reply(name: str, status: int = 200, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return an answer of the API's; its headers are as MediaWiki sets them."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, {"content-type": "application/json; charset=utf-8", **named}, (ANSWERS / name).read_bytes()


def parameters(asked: Any) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(asked.path).query))


class Script:
    """Answers with what it is given, one after the other, then with what was found."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def __call__(self, asked: Any) -> Any:
        answer = self.answers.pop(0) if self.answers else reply("found.json")
        return answer(asked) if callable(answer) else answer


@pytest.fixture
def served(loopback: Any) -> Any:
    """Starts a server and an engine that asks it."""
    engines: list[WikiSearchEngine] = []

    def start(answer: Callable[[Any], Any], patience: Patience = QUICK, **options: Any) -> Any:
        server = loopback(answer)
        options = {"requests_per_second": 1000, "contact": "me@example.org", **options}
        engines.append(WikiSearchEngine(url=f"{server.url}/w/api.php", patience=patience, **options))
        return engines[-1], server

    yield start
    for engine in engines:
        engine.close()


def test_pages_come_by_rank_without_those_that_have_no_text(served: Any) -> None:
    engine, _ = served(Script())
    assert engine.search("Einstein wife") == [MILEVA, ALBERT]
    assert engine.search("Einstein wife", 1) == [MILEVA]


def test_what_is_sent(served: Any) -> None:
    engine, server = served(Script())
    engine.search("Where was Einstein's wife born?", 30)
    (asked,) = server.asked
    assert (asked.method, urlsplit(asked.path).path) == ("GET", "/w/api.php")
    assert parameters(asked) == {
        "action": "query",
        "format": "json",
        "formatversion": "2",
        "maxlag": "5",
        "generator": "search",
        "gsrsearch": "Where was Einstein's wife born",
        "gsrnamespace": "0",
        "gsrlimit": "20",
        "prop": "extracts",
        "exintro": "1",
        "explaintext": "1",
        "exlimit": "20",
    }
    agent = {name.lower(): value for name, value in asked.headers.items()}["user-agent"]
    assert agent.startswith("StepSearch/")
    assert "(me@example.org) httpx/" in agent


def test_nothing_found(served: Any) -> None:
    engine, _ = served(Script(reply("nothing.json")))
    assert engine.search("zzz") == []


def test_an_answer_in_parts_is_put_together(served: Any) -> None:
    engine, server = served(Script(reply("first_part.json"), reply("second_part.json")))
    albert = Passage.from_text("Albert Einstein was a physicist.", "Albert Einstein")
    assert engine.search("Einstein") == [MILEVA, albert]
    assert parameters(server.asked[1])["excontinue"] == "1"


def test_parts_without_end_are_not_followed_for_ever(served: Any) -> None:
    engine, server = served(lambda asked: reply("first_part.json"))
    assert engine.search("Einstein") == [MILEVA]
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("Who is Jean-Paul O'Neil?", "Who is Jean-Paul O'Neil"),
        ('"exact phrase" -left +must wild* fuzzy~2', "exact phrase left must wild fuzzy 2"),
        ("intitle:red insource:/re[gex]/ (a OR b) NOT c", "intitle red insource re gex a or b not c"),
        ("!negated \\escaped prefix: | a && b", "negated escaped prefix a b"),
        ("AC/DC's U.S. tour – 1980.", "AC/DC's U.S tour 1980"),
        ("巴黎 हिन्दी né", "巴黎 हिन्दी né"),
        ("\ud83dhalf \x00 pair", "half pair"),
        ("?! ~ --", ""),
        ("word " * 100, "word " * 59 + "word"),
        ("x" * 301, ""),
    ],
)
def test_queries_are_words_to_the_wiki(query: str, words: str) -> None:
    assert plain_words(query) == words
    assert len(words) <= 300


def test_a_query_without_words_is_not_sent(served: Any) -> None:
    engine, server = served(Script())
    assert engine.search_batch(["", "?!"]) == [[], []]
    assert server.asked == []


@pytest.mark.parametrize(
    "fault",
    [
        (429, {}, b"<!DOCTYPE html>Too many requests"),
        (503, {}, b"<!DOCTYPE html>Our servers are currently under maintenance"),
        (500, {}, b""),
        (200, {}, b"<!DOCTYPE html>not JSON"),
        (200, {}, b"[]"),
        (200, {}, b'{"batchcomplete": tr'),
        (200, {}, b'{"error": {"code": "cirrussearch-backend-error", "info": "temporary problem"}}'),
        (200, {}, b'{"error": {"code": "internal_api_error_DBQueryError", "info": "[abc] Caught exception"}}'),
        None,
    ],
)
def test_a_temporary_fault_is_tried_again(served: Any, fault: Any) -> None:
    engine, server = served(Script(fault, fault))
    assert engine.search("Einstein") == [MILEVA, ALBERT]
    assert len(server.asked) == 3


def test_a_slow_answer_is_tried_again(served: Any) -> None:
    engine, server = served(Script(lambda asked: time.sleep(0.8)))
    assert engine.search("Einstein") == [MILEVA, ALBERT]
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("headers", "least"), [({"retry_after": "7", "x_database_lag": "5"}, 7), ({}, 5)], ids=["as asked", "five seconds"]
)
def test_a_lagging_database_is_waited_for(served: Any, headers: dict[str, str], least: float) -> None:
    pauses: list[float] = []
    engine, _ = served(Script(reply("maxlag.json", **headers)), patience=Patience())
    engine._client._sleep = pauses.append
    assert engine.search("Einstein") == [MILEVA, ALBERT]
    assert least <= pauses[0] <= least + 0.5


def test_a_limit_that_lasts_ends_all_asking_until_it_is_over(served: Any) -> None:
    engine, server = served(lambda asked: (429, {"retry-after": "120"}, b""))
    assert GuardedSearch(engine).search_batch(["a", "b"]) == [SearchOutcome((), failed=True)] * 2
    with pytest.raises(SearchUnavailableError, match="left alone for another"):
        engine.search("c")
    assert len(server.asked) == 1


def test_an_error_of_ones_own_is_not_tried_again(served: Any) -> None:
    engine, server = served(lambda asked: reply("badvalue.json"))
    with pytest.raises(SearchError, match="the wiki refuses the request: badinteger: Invalid value"):
        engine.search("Einstein")
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b'{"query": {"pages": {"736": {}}}}', b'{"query": {"pages": [1]}}', b'{"query": []}'])
def test_an_answer_of_another_shape(served: Any, body: bytes) -> None:
    engine, _ = served(lambda asked: (200, {}, body))
    with pytest.raises(SearchError, match="no list of pages"):
        engine.search("Einstein")


def test_tries_keep_to_the_rate(served: Any) -> None:
    engine, _ = served(Script((503, {}, b"")), requests_per_second=10)
    started = time.perf_counter()
    engine.search_batch(["a", "b", "c"])
    assert time.perf_counter() - started >= 0.3  # four tries


def test_one_query_that_fails_for_good_costs_only_itself(served: Any) -> None:
    def poisoned(asked: Any) -> Any:
        return (500, {}, b"") if parameters(asked)["gsrsearch"] == "x" else reply("found.json")

    engine, _ = served(poisoned)
    found = SearchOutcome((MILEVA, ALBERT))
    assert GuardedSearch(engine).search_batch(["a", "x", "b"]) == [found, SearchOutcome((), failed=True), found]


class TestFromSettings:
    @pytest.fixture(autouse=True)
    def home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        return tmp_path / "stepsearch" / "search"

    def settings(self, url: str, **values: Any) -> SearchSettings:
        return SearchSettings.model_validate({"engine_type": "wiki", "retries": 0, "wiki": {"url": url}, **values})

    def test_it_is_checked_and_cached(self, loopback: Any, home: Path) -> None:
        server = loopback(Script(reply("siteinfo.json"), reply("found.json"), reply("siteinfo.json")))
        for _ in range(2):
            engine = build_search_engine(self.settings(f"{server.url}/w/api.php"))
            assert isinstance(engine, CachedSearchEngine)
            assert engine.search_batch(["Einstein"]) == [[MILEVA, ALBERT]]
            engine.close()
        assert [parameters(asked).get("meta") for asked in server.asked] == ["siteinfo", None, "siteinfo"]
        assert (home / "results.sqlite3").is_file()

    def test_the_cache_can_be_turned_off(self, loopback: Any, home: Path) -> None:
        server = loopback(Script(reply("siteinfo.json")))
        engine = build_search_engine(self.settings(f"{server.url}/w/api.php", cache_entries=0))
        assert isinstance(engine, WikiSearchEngine)
        engine.close()
        assert not home.exists()

    def test_without_a_network_the_alternatives_are_named(self, loopback: Any) -> None:
        server = loopback(Script())
        server.stop()
        with pytest.raises(SearchError) as caught:
            build_search_engine(self.settings(f"{server.url}/w/api.php"))
        message = str(caught.value)
        assert message.startswith(f"search.engine_type wiki: {server.url}/w/api.php failed after 1 try: ")
        for alternative in (
            "check the network",
            "search.engine_type=bm25 search.knowledge_base=DIR",
            "search.engine_type=remote search.remote.url=URL",
            "search.engine_type=mock",
        ):
            assert alternative in message
        assert "\n" not in message

    def test_what_is_no_wiki_is_refused(self, loopback: Any) -> None:
        server = loopback(lambda asked: (200, {}, b'{"hello": "world"}'))
        with pytest.raises(SearchError, match="is not the API of a MediaWiki"):
            build_search_engine(self.settings(server.url))

    def test_who_gives_no_contact_is_warned(
        self, loopback: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = loopback(lambda asked: reply("siteinfo.json"))
        for contact, warned in (("me@example.org", False), (None, True)):
            engine = WikiSearchEngine(contact=contact)
            monkeypatch.setattr(engine, "_url", f"{server.url}/w/api.php")
            engine.check()
            engine.close()
            assert ("search.wiki.contact is not set" in caplog.text) == warned

    @pytest.mark.parametrize("override", ['search.wiki.contact="a\\nb"', "search.wiki.language=en.evil.org/"])
    def test_settings_cannot_smuggle_headers_or_hosts(self, override: str) -> None:
        with pytest.raises(ConfigError):
            load_config(None, [override])
