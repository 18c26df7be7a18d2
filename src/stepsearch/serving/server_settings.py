"""How a search server batches, and what it refuses."""

from dataclasses import dataclass, fields

from stepsearch.errors import ConfigError
from stepsearch.serving.bearer import check_token

_BODIES_IN_MEMORY = 8


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Batching and bounds of one server process. Every bound that is reached is answered, none is waited out.

    The defaults let through what Search-R1's trainer sends: the queries of a whole rollout (512 questions, 5 episodes
    each) in one request.

    Attributes:
        top_k: documents per query where a request names no number.
        max_batch: queries per call of the engine.
        batch_milliseconds: how long the first query of a batch waits for others to join it.
        max_waiting: queries accepted and not yet answered; beyond them requests are answered 503.
        max_requests: requests being answered at the same time; beyond them 503.
        max_request_bytes: size of a request's body; a larger one is answered 413.
        max_queries: queries of one request.
        max_query_characters: length of one query.
        max_top_k: documents per query that a request may ask for.
        max_results: documents that a request may ask for in all, its queries times their number of documents.
        body_seconds: how long the body of a request may take to arrive.
        token: what `Authorization: Bearer` must carry; None lets everyone in.

    Raises:
        ConfigError: a bound is not positive, or two of them exclude each other.
    """

    top_k: int = 3
    max_batch: int = 256
    batch_milliseconds: float = 2.0
    max_waiting: int = 16_384
    max_requests: int = 2_048
    max_request_bytes: int = 8 * 1024**2
    max_queries: int = 4_096
    max_query_characters: int = 16_384
    max_top_k: int = 100
    max_results: int = 65_536
    body_seconds: float = 30.0
    token: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("token", "batch_milliseconds") and value <= 0:
                raise ConfigError(f"{field.name} must be positive, got {value}")
        if not 0 <= self.batch_milliseconds <= 1000:
            raise ConfigError(f"batch_milliseconds must be from 0 to 1000, got {self.batch_milliseconds}")
        self._refuse_more("max_queries", "max_waiting")
        self._refuse_more("top_k", "max_top_k")
        check_token(self.token)

    @property
    def max_buffered_bytes(self) -> int:
        """Size of all bodies being received or answered; beyond it requests are answered 503."""
        return _BODIES_IN_MEMORY * self.max_request_bytes

    def _refuse_more(self, smaller: str, larger: str) -> None:
        low, high = getattr(self, smaller), getattr(self, larger)
        if low > high:
            raise ConfigError(f"{smaller} ({low}) is more than {larger} ({high}): lower the one or raise the other")
