"""The tag grammar of an episode: prompts, what a turn means, and what the environment writes.

    prompt -> <think>..</think><search>query</search> -> <information>documents</information> -> ...
           -> <think>..</think><answer>answer</answer>

This is the only place where tags exist. Text from outside (documents) passes `neutralise` before it stands in a prompt.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stepsearch.types import FormatError

THINK, SEARCH, INFORMATION, ANSWER = "think", "search", "information", "answer"
TAG_NAMES = (THINK, SEARCH, INFORMATION, ANSWER)


def opening(name: str) -> str:
    """Return the opening tag of that name."""
    return f"<{name}>"


def closing(name: str) -> str:
    """Return the closing tag of that name."""
    return f"</{name}>"


TAGS = tuple(tag for name in TAG_NAMES for tag in (opening(name), closing(name)))
STOP_TAGS = (closing(SEARCH), closing(ANSWER))

INFORMATION_PREFIX = f"\n{opening(INFORMATION)}"
INFORMATION_SUFFIX = f"{closing(INFORMATION)}\n"
NO_RESULTS = "No documents were found."
SEARCH_FAILED = "The search failed."
CORRECTION = (
    f"\nThat was no valid action. Search with {opening(SEARCH)}query{closing(SEARCH)} "
    f"or answer with {opening(ANSWER)}answer{closing(ANSWER)}.\n"
)
NO_SEARCH_LEFT = f"No search is left. Answer with {opening(ANSWER)}answer{closing(ANSWER)}.\n"

PROMPTS = {
    "question": "Question: {question}\n",
    "instructions": (
        "Answer the question by searching for what you do not know. First reason between <think> and </think>. When "
        "you lack a fact, write one search query between <search> and </search>; the documents found come back between "
        "<information> and </information>. Reason again after each result and search as often as you need. When you "
        "know the answer, write it, and nothing more, between <answer> and </answer>, for example "
        "<answer>Beijing</answer>.\nQuestion: {question}\n"
    ),
}

_ANY_TAG = re.compile(rf"<(\s*/?\s*(?:{'|'.join(TAG_NAMES)})\s*)>", re.IGNORECASE)
_CONTROL = re.compile(r"<(\|[^|<>\n]*\|)>")
_SPACES = re.compile(r"\s+")
# A title may have one level of parentheses, as "The Red Fox (film)" has.
_HEADING = re.compile(r"^Doc \d+(?: ?\(Title: ((?:[^()\n]|\([^()\n]*\))*)\))?(?=\s|$)", re.MULTILINE)
_BLOCK = re.compile(rf"<({'|'.join(TAG_NAMES)})>(.*?)(?:</\1>|\Z)", re.DOTALL)
_INFORMATION_BLOCK = re.compile(rf"<({INFORMATION})>(.*?)(?:</\1>|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Search:
    """The turn asks for documents."""

    query: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The turn answers; `trailing` is what the last token carried past the closing tag."""

    text: str
    trailing: str = ""


@dataclass(frozen=True, slots=True)
class NoAction:
    """The turn does neither; `reason` is for the log."""

    reason: str


Action = Search | Answer | NoAction


def parse_turn(text: str) -> Action:
    """Return the action of one sampled turn: what its first closed `search` or `answer` tag holds.

    The content runs from the nearest matching opening tag before it, is stripped and has its white space folded. A
    content that is empty, or holds a tag, is no action.
    """
    ends = [(text.find(tag), tag) for tag in STOP_TAGS if tag in text]
    if not ends:
        return NoAction("no closed search or answer")
    end, tag = min(ends)
    name = tag[2:-1]
    start = text.rfind(opening(name), 0, end)
    if start < 0:
        return NoAction(f"{tag} without {opening(name)}")
    content = text[start + len(opening(name)) : end]
    if _ANY_TAG.search(content):
        return NoAction(f"a tag inside {opening(name)}")
    content = _SPACES.sub(" ", content).strip()
    if not content:
        return NoAction(f"empty {opening(name)}")
    return Search(content) if name == SEARCH else Answer(content, text[end + len(tag) :])


def render_turn(thought: str, action: Search | Answer) -> str:
    """Return the text of a turn; `parse_turn` gives the action back."""
    name, content = (SEARCH, action.query) if isinstance(action, Search) else (ANSWER, action.text)
    thinking = f"{opening(THINK)}{thought}{closing(THINK)}" if thought else ""
    trailing = action.trailing if isinstance(action, Answer) else ""
    return f"{thinking}{opening(name)}{content}{closing(name)}{trailing}"


def blocks(text: str, sampled: bool = True) -> list[tuple[str, str]]:
    """Return what `text` consists of, for showing it: pairs of a tag's name (empty outside of tags) and its content.

    In what the environment wrote (`sampled` is False) actions are only spoken of: there the one block is
    `information`.
    """
    found: list[tuple[str, str]] = []
    end = 0
    for match in (_BLOCK if sampled else _INFORMATION_BLOCK).finditer(text):
        found += [("", text[end : match.start()]), (match[1], match[2])]
        end = match.end()
    found.append(("", text[end:]))
    return [(name, content.strip()) for name, content in found if content.strip()]


def format_error(sampled_turns: Sequence[str], searches: int) -> FormatError | None:
    """Return the first thing wrong with an episode's format, None if it is right (docs/algorithm.md).

    Args:
        sampled_turns: the text the policy sampled, turn by turn, without what the environment wrote.
        searches: how many well-formed searches were issued, failed ones included.
    """
    last = parse_turn(sampled_turns[-1]) if sampled_turns else NoAction("nothing sampled")
    if not isinstance(last, Answer):
        return FormatError.NO_ANSWER
    if last.trailing.strip():
        return FormatError.TEXT_AFTER_ANSWER
    if sum(turn.count(closing(ANSWER)) for turn in sampled_turns) != 1:
        return FormatError.SEVERAL_ANSWERS
    return FormatError.NO_SEARCH if searches == 0 else None


def neutralise(text: str) -> str:
    """Return `text` with every tag of the grammar in square brackets, so that a document cannot act."""
    return _ANY_TAG.sub(r"[\1]", text)


def neutralise_control(text: str) -> str:
    """Return `text` with tags of the grammar and control tokens such as `<|im_end|>` in square brackets."""
    return _CONTROL.sub(r"[\1]", neutralise(text))


def passage_heading(rank: int, title: str) -> str:
    """Return what stands before the body of the passage at `rank` (from 1)."""
    return f"Doc {rank} (Title: {neutralise(title)}) " if title else f"Doc {rank} "


def parse_documents(information: str) -> list[tuple[str, str]]:
    """Return title and body of each document of a search result, as `passage_heading` begins them.

    What begins no document is one without a title; a result that found nothing has none.
    """
    text = information.strip()
    if text in ("", NO_RESULTS, SEARCH_FAILED):
        return []
    headings = list(_HEADING.finditer(text))
    if not headings or headings[0].start() > 0:
        return [("", text)]
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    return [
        ((heading[1] or "").strip('" '), text[heading.end() : end].strip())
        for heading, end in zip(headings, ends, strict=True)
    ]


def render_prompt(style: str, question: str) -> str:
    """Return the prompt text of a question in a style of `PROMPTS`."""
    return PROMPTS[style].format(question=neutralise(question))
