"""Who may ask a server."""

import secrets
from collections.abc import Mapping, MutableMapping
from typing import Any

from stepsearch.errors import ConfigError

WANTED = "this server wants a bearer token: send the header Authorization: Bearer TOKEN"
CHALLENGE: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


def check_token(token: str | None) -> None:
    """Refuse a token that no header can carry.

    Raises:
        ConfigError: it has other characters than printable ASCII, or nothing else than spaces.
    """
    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise ConfigError("the token must be of printable ASCII characters, and not empty")


def may_enter(scope: MutableMapping[str, Any], token: str | None) -> bool:
    """Return whether a request shows the token, or none is wanted."""
    if token is None:
        return True
    sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, shown = sent.partition(b" ")
    # Compared in a time that does not tell how much of it is right.
    return scheme.lower() == b"bearer" and secrets.compare_digest(shown.strip(), token.encode())
