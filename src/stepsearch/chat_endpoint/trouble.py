"""What to do about a request that failed."""

import random
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from stepsearch.errors import one_line
from stepsearch.retry_after import retry_after_seconds

_LONGEST_PAUSE_SECONDS = 60.0


class Reaction(StrEnum):
    """What a failed try calls for."""

    RETRY = "retry"
    """It may work later."""
    GIVE_UP = "give up"
    """This request will never work; others may."""
    STOP = "stop"
    """No request will work."""


class UnreadableReplyError(Exception):
    """A reply came whole by HTTP's account, and is no chat completion."""


def reaction_to(error: Exception) -> Reaction:
    """Return what a failed try calls for.

    Args:
        error: an exception of the `openai` client, or `UnreadableReplyError`. One without a status never got an
            answer: a timeout, a dropped connection.
    """
    status: int | None = getattr(error, "status_code", None)
    if status is None or status in (408, 409, 425) or status >= 500:
        return Reaction.RETRY
    if status == 429:
        return Reaction.STOP if getattr(error, "code", None) == "insufficient_quota" else Reaction.RETRY
    return Reaction.STOP if status in (401, 402, 403, 404) else Reaction.GIVE_UP


def pause_seconds(attempt: int, backoff_seconds: float, error: Exception) -> float:
    """Return how long to wait before the next try: as long as the server asks, else doubling, with jitter.

    Args:
        attempt: 0 after the first try.
        backoff_seconds: the pause after the first try, before jitter of a half either way.
        error: what the try failed with.
    """
    asked = retry_after_seconds(_headers(error))
    if asked is not None:
        # Later than asked, never earlier, and not all requests at once.
        return asked + random.uniform(0, min(1.0, backoff_seconds))
    return min(_LONGEST_PAUSE_SECONDS, backoff_seconds * 2**attempt) * random.uniform(0.5, 1.5)


def explain(error: Exception) -> str:
    """Return a failed try as a few words on one line."""
    cause = f" {error.__cause__}" if error.__cause__ is not None else ""
    return one_line(f"{error}{cause}".strip() or type(error).__name__, 300)


def refused_parameter(error: Exception, known: tuple[str, ...]) -> str | None:
    """Return which of the known parameters an endpoint does not support, None where that is not what it says."""
    if getattr(error, "status_code", None) not in (400, 422):
        return None
    text = str(error).lower()
    if not any(word in text for word in ("unsupported", "not support", "unavailable", "not permitted")):
        return None
    named = getattr(error, "param", None)
    return next((name for name in known if name == named or (named is None and name in text)), None)


def _headers(error: Exception) -> Mapping[str, str]:
    response: Any = getattr(error, "response", None)
    return {} if response is None else response.headers
