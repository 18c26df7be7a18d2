"""Reference queries out of a question's decomposition, by rule.

A hop is a natural question or `subject >> relation`, and names earlier answers as `#1`, `#2`. Each becomes two or three
different queries that a person could have typed; the first is the one that lexical search does best with.
"""

import re
from collections.abc import Iterable, Sequence

_REFERENCE = re.compile(r"(?:\b(?P<before>\w+)\s+)?#(?P<number>\d+)")
_SPACES = re.compile(r"\s+")
_SPACE_BEFORE_MARK = re.compile(r"\s+(?=['’]s\b|[?!,.;:](?:\s|$))")
_EDGE_MARKS = "\"“”'‘’`()[]{},.;:?!"

RELATION_QUERIES: dict[str, tuple[str, ...]] = {
    "place of birth": ("birthplace of {s}", "where was {s} born"),
    "place of death": ("place of death of {s}", "where did {s} die"),
    "place of burial": ("burial place of {s}", "where is {s} buried"),
    "date of birth": ("date of birth of {s}", "when was {s} born"),
    "date of death": ("date of death of {s}", "when did {s} die"),
    "cause of death": ("cause of death of {s}", "how did {s} die"),
    "country of citizenship": ("nationality of {s}", "which country is {s} a citizen of"),
    "country of origin": ("country of origin of {s}", "which country does {s} come from"),
    "country": ("country of {s}", "which country is {s} in"),
    "located in the administrative territorial entity": (
        "administrative territorial entity of {s}",
        "which administrative territorial entity is {s} located in",
    ),
    "contains administrative territorial entity": (
        "administrative territorial entities in {s}",
        "which administrative territorial entity does {s} contain",
    ),
    "located on terrain feature": ("terrain feature of {s}", "which terrain feature is {s} located on"),
    "located in or next to body of water": ("body of water at {s}", "which body of water is {s} next to"),
    "shares border with": ("border of {s}", "what shares a border with {s}"),
    "follows": ("predecessor of {s}", "what does {s} follow"),
    "followed by": ("successor of {s}", "what is {s} followed by"),
    "replaces": ("predecessor of {s}", "what does {s} replace"),
    "owned by": ("owner of {s}", "who owns {s}"),
    "founded by": ("founder of {s}", "who founded {s}"),
    "designed by": ("designer of {s}", "who designed {s}"),
    "lyrics by": ("lyricist of {s}", "who wrote the lyrics of {s}"),
    "killed by": ("killer of {s}", "who killed {s}"),
    "educated at": ("education of {s}", "where was {s} educated"),
    "member of sports team": ("sports team of {s}", "which sports team is {s} a member of"),
    "member of political party": ("political party of {s}", "which political party is {s} a member of"),
    "member of": ("membership of {s}", "what is {s} a member of"),
    "licensed to broadcast to": ("broadcast licence of {s}", "which place is {s} licensed to broadcast to"),
    "named after": ("namesake of {s}", "what is {s} named after"),
    "has part": ("part of {s}", "what is part of {s}"),
    "work location": ("work location of {s}", "where did {s} work"),
    "headquarters location": ("headquarters of {s}", "where is the headquarters of {s}"),
    "narrative location": ("setting of {s}", "where is {s} set"),
    "filming location": ("filming location of {s}", "where was {s} filmed"),
    "location": ("location of {s}", "where is {s} located"),
    "location of formation": ("place of formation of {s}", "where was {s} formed"),
    "residence": ("residence of {s}", "where does {s} live"),
    "inception": ("founding date of {s}", "when was {s} founded"),
    "publication date": ("release date of {s}", "when was {s} released"),
    "award received": ("award of {s}", "which award did {s} receive"),
    "position held": ("office of {s}", "which position did {s} hold"),
    "employer": ("employer of {s}", "who did {s} work for"),
    "notable work": ("notable work of {s}", "what is {s} known for"),
    "cast member": ("cast of {s}", "who acted in {s}"),
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PERSON_RELATIONS = _words(
    "author performer spouse father mother child sibling relative composer creator screenwriter producer director "
    "editor architect illustrator chairperson presenter narrator student conductor winner developer "
    "librettist lyricist partner stepparent manufacturer publisher husband wife brother sister "
    "president mayor governor king queen chairman leader head manager coach captain writer singer actor owner founder"
) | {"doctoral advisor", "head coach", "head of government", "head of state", "chief executive officer"}
_PREPOSITIONS = _words("about after against as at before by for from in into of off on out over to under with")
_QUESTION_WORDS = _words("who whom whose what which when where why how")
_AUXILIARIES = _words("is are was were be been do does did has have had can could will would there")
_ARTICLES = _words("a an the")
_LIGHT_WORDS = _ARTICLES | _PREPOSITIONS | _words("and or that this it its")


def reference_queries(sub_question: str, answers_so_far: Sequence[str]) -> tuple[str, ...]:
    """Return one to three different queries for a hop, the best for lexical search first.

    Args:
        sub_question: natural question or `subject >> relation`; `#1` is the first of `answers_so_far`.
        answers_so_far: answers of the earlier hops.

    Example:
        `("#1 >> screenwriter", ["Up"])` gives `("Up screenwriter", "screenwriter of Up", "who is the screenwriter of
        Up")`.
    """
    parts = split_relation(sub_question)
    if parts is None:
        return _distinct(_question_queries(fill_references(sub_question, answers_so_far)))
    subject, relation = (fill_references(part, answers_so_far) for part in parts)
    return _distinct([f"{subject} {relation}", *_relation_queries(subject, relation)])


def fill_references(text: str, answers: Sequence[str]) -> str:
    """Return `text` with `#n` replaced by the n-th answer and its spacing mended; a `#n` without answer stays.

    A word that would stand twice, as in "the #1" with "the USSR", is written once.
    """

    def filled(reference: re.Match[str]) -> str:
        position = int(reference["number"])
        if not 1 <= position <= len(answers):
            return reference[0]
        before, answer = reference["before"], answers[position - 1].strip()
        if before is None:
            return answer
        first, _, rest = answer.partition(" ")
        return f"{before} {rest if rest and first.casefold() == before.casefold() else answer}"

    return _SPACE_BEFORE_MARK.sub("", _SPACES.sub(" ", _REFERENCE.sub(filled, text))).strip()


def split_relation(text: str) -> tuple[str, str] | None:
    """Return subject and relation of `subject >> relation`, None for anything else."""
    subject, arrow, relation = text.rpartition(">>")
    subject, relation = subject.strip(), relation.strip()
    return (subject, relation) if arrow and subject and relation else None


def _relation_queries(subject: str, relation: str) -> tuple[str, ...]:
    templates = RELATION_QUERIES.get(relation.lower())
    if templates is not None:
        return tuple(template.replace("{s}", subject) for template in templates)
    if relation.rpartition(" ")[2].lower() in _PREPOSITIONS:
        return (f"what is {subject} {relation}",)
    asks_for = "who" if relation.lower() in _PERSON_RELATIONS else "what"
    return (f"{relation} of {subject}", f"{asks_for} is the {relation} of {subject}")


def _question_queries(question: str) -> tuple[str, ...]:
    cleaned = question.rstrip("?!. ")
    statement = _without_question_words(cleaned.split(" "))
    return (cleaned, " ".join(statement), " ".join(_content_words(statement)))


def _without_question_words(words: list[str]) -> list[str]:
    """Drop question words with the preposition before them, auxiliaries, and light words left at either end.

    A capitalised word is part of a name, but for the sentence's first.
    """
    words = [words[0].lower() if words[0].lower() in _QUESTION_WORDS | _PREPOSITIONS else words[0], *words[1:]]
    kept = [
        word
        for word, following in zip(words, [*words[1:], ""], strict=True)
        if word not in _QUESTION_WORDS | _AUXILIARIES and not (word in _PREPOSITIONS and following in _QUESTION_WORDS)
    ]
    while kept and kept[-1] in _PREPOSITIONS:
        kept.pop()
    while kept and kept[0] in _ARTICLES | {"many", "much"}:
        kept.pop(0)
    return kept


def _content_words(words: list[str]) -> list[str]:
    """Drop light words, but for those inside a name ("Bank of America"), and the marks around words."""
    named = [word[:1].isupper() for word in words]
    kept = [
        word.strip(_EDGE_MARKS)
        for position, word in enumerate(words)
        if word not in _LIGHT_WORDS or (0 < position < len(words) - 1 and named[position - 1] and named[position + 1])
    ]
    return [word for word in kept if word]


def _distinct(queries: Iterable[str]) -> tuple[str, ...]:
    by_key = {query.casefold(): query for query in reversed(list(queries)) if query}
    return tuple(reversed(by_key.values()))
