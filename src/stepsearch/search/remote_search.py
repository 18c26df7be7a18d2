"""Search by a server that speaks Search-R1's protocol.

    POST {url}   {"queries": ["…", …], "topk": 3, "return_scores": true}
    answers      {"result": [[{"document": {"id": "…", "contents": "\\"Title\\"\\nText"}, "score": 1.5}, …], …]}

Without scores a document may stand where an object with document and score is expected.
"""

from collections.abc import Mapping, Sequence

from stepsearch.errors import SearchError
from stepsearch.search.patient_http import HttpReply, HttpRequest, Patience, PatientClient
from stepsearch.search.retrieved_documents import passage_from_document
from stepsearch.search.search_engine import SearchEngine
from stepsearch.types import Passage

_DEFAULT_PATIENCE = Patience()


class RemoteSearchEngine(SearchEngine):
    """Sends the queries of a batch to a server together. Blank queries find nothing and are not sent.

    Args:
        url: the full address, such as http://127.0.0.1:8000/retrieve.
        patience: how long to try.
        token: sent as a bearer token, where the server asks for one.
        batch_size: queries in one request; more are sent in several, one after the other.
    """

    guards_itself = True

    def __init__(
        self, url: str, patience: Patience = _DEFAULT_PATIENCE, token: str | None = None, batch_size: int = 256
    ) -> None:
        self._url = url
        self._batch_size = batch_size
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._client = PatientClient(url, patience, headers)

    def search(self, query: str, top_k: int = 3) -> list[Passage]:
        """Return at most `top_k` passages, best first, with their scores."""
        return self.search_batch([query], top_k)[0]

    def search_batch(self, queries: Sequence[str], top_k: int = 3) -> list[list[Passage]]:
        """Return the passages of each query, in the order of `queries`.

        Raises:
            SearchUnavailableError: the server gives no answer.
            SearchError: it has none to these queries, or not one for each.
        """
        asked = [query for query in dict.fromkeys(queries) if query.strip()]
        found: dict[str, list[Passage]] = {}
        for start in range(0, len(asked), self._batch_size):
            batch = asked[start : start + self._batch_size]
            found.update(zip(batch, self._retrieve(batch, top_k), strict=True))
        return [found.get(query, []) for query in queries]

    def check(self) -> None:
        """Make sure that the server answers.

        Raises:
            SearchError: it does not; says what to do.
        """
        try:
            self._retrieve(["test"], 1)
        except SearchError as error:
            raise SearchError(
                f"search.engine_type remote: {error}; start the server, name another with search.remote.url=URL, "
                "give the token that it wants in the environment variable search.remote.token_variable, or search a "
                "corpus of your own with search.engine_type=bm25 search.knowledge_base=DIR"
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Passage]]:
        request = HttpRequest("POST", self._url, body={"queries": list(queries), "topk": top_k, "return_scores": True})
        return self._client.ask(request, lambda reply: _results(reply, len(queries), top_k))


def _results(reply: HttpReply, count: int, top_k: int) -> list[list[Passage]]:
    answer = reply.json()
    results = answer.get("result") if isinstance(answer, Mapping) else None
    if not isinstance(results, list) or len(results) != count:
        got = len(results) if isinstance(results, list) else "no"
        raise SearchError(f"the server's answer has {got} results for {count} queries")
    return [_passages(result, top_k) for result in results]


def _passages(result: object, top_k: int) -> list[Passage]:
    if not isinstance(result, list):
        raise SearchError(f"a result must be a list of documents, not a {type(result).__name__}")
    return [_passage(item) for item in result[:top_k]]


def _passage(item: object) -> Passage:
    if isinstance(item, Mapping) and "document" in item:
        return passage_from_document(item["document"], item.get("score"))
    return passage_from_document(item)
