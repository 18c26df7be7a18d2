"""Text that can be written as UTF-8, which Python's need not be."""


def utf8_text(text: str) -> str:
    """Return `text` with a question mark for each half of a surrogate pair, as damaged JSON escapes leave them.

    Tokenizers and files refuse such halves, and would end a run.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
