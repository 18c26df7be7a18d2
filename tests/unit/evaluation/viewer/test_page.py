import base64
import hashlib
import json
import re
from html.parser import HTMLParser

from stepsearch.evaluation.viewer.page import render_page

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> ]]> \u2028 & \x00 \r\n"


class Elements(HTMLParser):
    """Collects every start tag, and the text of each script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)


def test_no_text_leaves_its_data_element() -> None:
    plain = Elements(render_page("t", {"a": "x", "b": "y"}).decode())
    hostile = Elements(render_page(HOSTILE, {"a": HOSTILE, "b": {HOSTILE: [HOSTILE]}}).decode())
    assert hostile.tags == plain.tags
    held = {attributes["id"]: text for attributes, text in hostile.scripts if attributes.get("type")}
    assert json.loads(held["a"]) == HOSTILE
    assert json.loads(held["b"]) == {HOSTILE: [HOSTILE]}


def test_half_of_a_surrogate_pair_survives() -> None:
    page = render_page("t", {"a": "x\ud800y"}).decode("utf-8")
    held = [text for attributes, text in Elements(page).scripts if attributes.get("id") == "a"]
    assert json.loads(held[0]) == "x\ud800y"


def test_the_policy_allows_this_script_and_style_and_nothing_else() -> None:
    page = render_page("t", {"a": 1}).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy is not None
    assert style is not None
    script = next(text for attributes, text in Elements(page).scripts if not attributes)
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    for name, text in (("script-src", script), ("style-src", style[1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"


def test_the_page_asks_for_nothing_from_outside() -> None:
    page = render_page("t", {"a": 1}).decode()
    # Namespaces are names, not addresses.
    assert set(re.findall(r"https?://[^\"'\s]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe)|@import|url\(|\bsrc=|innerHTML|insertAdjacentHTML|\beval\(", page)
