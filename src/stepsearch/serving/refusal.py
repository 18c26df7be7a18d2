"""Answers other than 200, as exceptions."""

from collections.abc import Mapping

RETRY_SECONDS = 1


class Refusal(Exception):
    """A request that is not answered with results.

    Args:
        status: HTTP status of the answer.
        detail: one line for the person who reads it.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


class OverloadedError(Exception):
    """So much waits to be answered that more of it would only wait longer."""


def overloaded(detail: str) -> Refusal:
    """Return the refusal of a server that has enough to do, with when to come back."""
    return Refusal(503, f"the server is overloaded ({detail}): try again later", {"Retry-After": f"{RETRY_SECONDS}"})
