"""Search of live Wikipedia, or of any other MediaWiki with the extension TextExtracts, through its API.

One request a query: the search's pages come with the plain text of their introductions.

    GET {url}?action=query&generator=search&gsrsearch=…&prop=extracts&exintro=1&explaintext=1&formatversion=2
    answers  {"batchcomplete": true, "query": {"pages": [{"pageid": 1, "title": "…", "index": 1, "extract": "…"}, …]}}
"""

import logging
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from stepsearch.errors import SearchError
from stepsearch.search.patient_http import HttpReply, HttpRequest, Patience, PatientClient, TryLaterError
from stepsearch.search.rate_limit import RateLimit
from stepsearch.search.search_engine import SearchEngine
from stepsearch.search.server_message import printable_line
from stepsearch.search.utf8_text import utf8_text
from stepsearch.types import Passage

logger = logging.getLogger(__name__)

# The most introductions that one request gets.
MOST_PAGES = 20
# CirrusSearch refuses longer ones.
LONGEST_QUERY = 300
# Seconds of database lag from which Wikimedia asks programs to wait, and how long.
MAX_LAG = 5
LAG_PAUSE = 5.0
_CONTINUATIONS = 5
_TEMPORARY = frozenset(
    {"maxlag", "ratelimited", "readonly", "search-error", "cirrussearch-backend-error", "cirrussearch-too-busy-error"}
)
_SYNTAX = re.compile(r"[\x00-\x1f\"~*?!\\:()\[\]{}|^<>=+#]")
_AROUND_WORDS = "-_'’.,;/&"
_DEFAULT_PATIENCE = Patience()


class WikiSearchEngine(SearchEngine):
    """Finds the introductions of articles. Asks one query after the other, as Wikimedia wishes.

    Operators of the search syntax are taken as words, and a query without a word finds nothing. More than 20 passages
    are never found.

    Args:
        language: Wikipedia's language code.
        contact: e-mail or URL for the user agent.
        url: address of another MediaWiki's api.php; `language` is then without effect.
        requests_per_second: tries made in a second at most.
        patience: how long to try.
    """

    guards_itself = True

    def __init__(
        self,
        language: str = "en",
        contact: str | None = None,
        url: str | None = None,
        requests_per_second: float = 3.0,
        patience: Patience = _DEFAULT_PATIENCE,
    ) -> None:
        self._url = url or f"https://{language}.wikipedia.org/w/api.php"
        self._owes_contact = contact is None and url is None
        headers = {"user-agent": _user_agent(contact)}
        self._client = PatientClient(self._url, patience, headers, RateLimit(requests_per_second))

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        """Return at most `top_k` passages, best first.

        Raises:
            SearchUnavailableError: the API gives no answer.
            SearchError: it has none to this query.
        """
        words = plain_words(query)
        if not words:
            return []
        limit = min(top_k, MOST_PAGES)
        search = {"generator": "search", "gsrsearch": words, "gsrnamespace": "0", "gsrlimit": str(limit)}
        extracts = {"prop": "extracts", "exintro": "1", "explaintext": "1", "exlimit": str(MOST_PAGES)}
        pages = self._pages({**search, **extracts})
        found = [_passage(page) for page in sorted(pages.values(), key=_index)]
        return [passage for passage in found if passage.text][:limit]

    def check(self) -> None:
        """Make sure that the API answers; warn who owes Wikimedia a contact.

        Raises:
            SearchError: it does not; says what else can be searched.
        """
        try:
            answer = self._query({"meta": "siteinfo"})
            if not answer.get("query"):
                raise SearchError(f"{self._url} is not the API of a MediaWiki")
        except SearchError as error:
            raise SearchError(
                f"search.engine_type wiki: {error}; check the network, or search something else: a knowledge base of "
                "your own with search.engine_type=bm25 search.knowledge_base=DIR, a server with "
                "search.engine_type=remote search.remote.url=URL, or made-up documents with search.engine_type=mock"
            ) from None
        if self._owes_contact:
            logger.warning(
                "search.wiki.contact is not set: Wikimedia's policy asks for an e-mail or URL in the user agent, and "
                "programs without may be slowed down or blocked"
            )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _pages(self, parameters: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return the pages of an answer by id, with what its continuations add to them."""
        pages: dict[str, dict[str, Any]] = {}
        more: Mapping[str, str] = {}
        for _ in range(_CONTINUATIONS):
            answer = self._query({**parameters, **more})
            for page in _found_pages(answer):
                pages.setdefault(str(page.get("pageid")), {}).update(page)
            more = _continuation(answer)
            # What could be continued after a complete batch are further search results.
            if answer.get("batchcomplete") or not more:
                break
        return pages

    def _query(self, parameters: Mapping[str, str]) -> Mapping[str, Any]:
        shared = {"action": "query", "format": "json", "formatversion": "2", "maxlag": str(MAX_LAG)}
        return self._client.ask(HttpRequest("GET", self._url, {**shared, **parameters}), _answer)


def plain_words(query: str) -> str:
    """Return the words of a query, without the operators and the length that MediaWiki's search would stumble over."""
    # Half a surrogate pair cannot be sent in an address.
    text = query.encode("utf-8", "ignore").decode()
    words: list[str] = []
    length = -1
    for word in (part.strip(_AROUND_WORDS) for part in _SYNTAX.sub(" ", text).split()):
        if not any(letter.isalnum() for letter in word):
            continue
        length += len(word) + 1
        if length > LONGEST_QUERY:
            break
        words.append(word.lower() if word in ("AND", "OR", "NOT") else word)
    return " ".join(words)


def _user_agent(contact: str | None) -> str:
    return f"StepSearch/{version('stepsearch')} ({contact or 'no contact given'}) httpx/{version('httpx')}"


def _answer(reply: HttpReply) -> Mapping[str, Any]:
    answer = reply.json()
    if not isinstance(answer, Mapping):
        raise TryLaterError(f"the answer is a {type(answer).__name__}, not an object", query_at_fault=True)
    error = answer.get("error")
    if isinstance(error, Mapping):
        code = str(error.get("code"))
        said = printable_line(f"{code}: {error.get('info')}")
        if code in _TEMPORARY or code.startswith("internal_api_error"):
            pause = LAG_PAUSE if code == "maxlag" else None
            raise TryLaterError(said, pause if reply.retry_after is None else reply.retry_after)
        raise SearchError(f"the wiki refuses the request: {said}")
    return answer


def _found_pages(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    query = answer.get("query", {})
    pages = query.get("pages", []) if isinstance(query, Mapping) else None
    if not isinstance(pages, list) or not all(isinstance(page, dict) for page in pages):
        raise SearchError("the wiki's answer has no list of pages")
    return pages


def _continuation(answer: Mapping[str, Any]) -> Mapping[str, str]:
    more = answer.get("continue")
    return {key: str(value) for key, value in more.items()} if isinstance(more, Mapping) else {}


def _index(page: Mapping[str, Any]) -> int:
    index = page.get("index")
    return index if isinstance(index, int) else MOST_PAGES


def _passage(page: Mapping[str, Any]) -> Passage:
    return Passage.from_text(_text(page.get("extract")), _text(page.get("title")))


def _text(value: object) -> str:
    return utf8_text(value).strip() if isinstance(value, str) else ""
