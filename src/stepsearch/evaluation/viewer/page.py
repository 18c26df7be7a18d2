"""One page of HTML that needs nothing but itself.

All data stands in script elements that are no scripts, in pieces that the page parses when it needs them. The page
runs the one script and the one style sheet whose hashes its policy names, and loads nothing.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

# One script in the page, in the order in which the parts need each other.
SCRIPTS = ("dom.js", "plots.js", "figures.js", "trajectories.js", "detail.js", "tokens.js", "report.js")


def render_page(title: str, data: Mapping[str, Any]) -> bytes:
    """Return the page as UTF-8.

    Args:
        title: for the browser's tab.
        data: JSON values by the id of the element that holds them.
    """
    style, script = _part("report.css"), "\n".join(map(_part, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    places = {
        "policy": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "title": html.escape(title),
        "style": f"<style>{style}</style>",
        "data": "\n".join(_element(name, value) for name, value in data.items()),
        "script": f"<script>{script}</script>",
    }
    before, *pieces = _part("report.html").split("<!-- ")
    page = before
    # In one pass, so that no place is looked for in data.
    for piece in pieces:
        name, _, after = piece.partition(" -->")
        page += places[name] + after
    # A half of a surrogate pair has no UTF-8; as an escape it is JSON.
    return page.encode("utf-8", "backslashreplace")


def _part(name: str) -> str:
    return (files(__package__ or "") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _element(name: str, value: Any) -> str:
    """Return a data element. Without `<` nothing in it can end it or open a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'
