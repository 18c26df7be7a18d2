"""What a server says of itself, made fit for a line of ours."""

LONGEST = 200


def printable_line(text: str) -> str:
    """Return the beginning of a text as one line, without control characters such as a terminal would obey."""
    line = " ".join(text[: 4 * LONGEST].split())
    return "".join(letter for letter in line if letter.isprintable())[:LONGEST]
