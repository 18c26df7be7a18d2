"""Who may ask a server."""

import secrets
from collections.abc import Mapping, MutableMapping
from typing import Any

WANTED = "this server wants a bearer token: send the header Authorization: Bearer TOKEN"
CHALLENGE: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}


def may_enter(scope: MutableMapping[str, Any], token: str | None) -> bool:
    """Return whether a request shows the token, or none is wanted."""
    if token is None:
        return True
    sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, shown = sent.partition(b" ")
    # Compared in a time that does not tell how much of it is right.
    return scheme.lower() == b"bearer" and secrets.compare_digest(shown.strip(), token.encode())
