"""How each method's source writes a document; the words stay data."""

import json

from stepsearch.protocol import passage_heading


def step_search_document(rank: int, title: str, body: str) -> str:
    """Return a document as an episode of this project shows it."""
    return passage_heading(rank, title) + body


def search_r1_document(rank: int, title: str, body: str) -> str:
    """Return a document as Search-R1 and FlashRAG write it; their corpus has the title in quotation marks."""
    return f'Doc {rank}(Title: "{title}") {body}' if title else f"Doc {rank} {body}"


def ircot_document(_: int, title: str, body: str) -> str:
    """Return a paragraph as IRCoT writes it."""
    return f"Wikipedia Title: {title}\n{body}"


def search_o1_document(rank: int, title: str, body: str) -> str:
    """Return a document as Search-o1 writes a web page."""
    return f"**Web Page {rank}:**\n{json.dumps({'title': title, 'context': body}, ensure_ascii=False, indent=2)}"
