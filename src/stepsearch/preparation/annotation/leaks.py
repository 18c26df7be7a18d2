"""Whether a text tells what it asks for."""

from collections.abc import Sequence

from stepsearch.matching.answers import normalize


def gives_away(text: str, answer: str, sources: Sequence[str]) -> bool:
    """Return whether a text names the answer, as whole words, though none of the texts it was made from does.

    Those may: "Which is older, Up or Heat?" is answered with one of its own words.
    """
    wanted = _words(answer)
    return bool(wanted.strip()) and wanted in _words(text) and not any(wanted in _words(source) for source in sources)


def _words(text: str) -> str:
    return f" {normalize(text)} "
