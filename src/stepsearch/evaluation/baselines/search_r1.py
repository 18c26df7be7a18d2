"""Search-R1's prompt and loop (Jin et al. 2025, arXiv 2503.09516; github.com/PeterGriffinJin/Search-R1).

Prompt: `scripts/data_process/qa_search_test_merge.py`; loop and messages: `search_r1/llm_agent/generation.py`, the one
that its training and validation use.
"""

import re

from stepsearch.evaluation.baselines.documents import search_r1_document
from stepsearch.evaluation.text_episode import Play, TextEpisode, reason_of
from stepsearch.evaluation.text_generation import ANSWER_STOP, SEARCH_STOP, Piece, Sampled, TextEnd, fill
from stepsearch.protocol import ANSWER, INFORMATION, SEARCH, closing, opening
from stepsearch.types import StopReason

PROMPT = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. After reasoning, if you find you lack some knowledge, you can call a search engine by <search> query "
    "</search> and it will return the top searched results between <information> and </information>. You can search as "
    "many times as your want. If you find no further external knowledge needed, you can directly provide the answer "
    "inside <answer> and </answer>, without detailed illustrations. For example, <answer> Beijing </answer>. "
    "Question: {question}\n"
)
INVALID = (
    "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. If I "
    "want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n"
)
_ACTION = re.compile(r"<(search|answer)>(.*?)</\1>", re.DOTALL)


def search_r1(episode: TextEpisode) -> Play:
    """Play as many turns as there are searches, valid or not, and a last one whose search is not executed."""
    prompt = fill(PROMPT, question=_with_question_mark(episode.question))
    said: list[Piece | Sampled] = []
    turns: list[str] = []
    for turn in range(episode.budget.max_searches + 1):
        sampled = yield from episode.sample(prompt, said, stops=(SEARCH_STOP, ANSWER_STOP))
        turns.append(sampled.text)
        kind, content = _action(sampled.text)
        if kind == ANSWER:
            return episode.finish(StopReason.ANSWERED, content, turns)
        if sampled.end in (TextEnd.CONTEXT_FULL, TextEnd.NO_REPLY):
            return episode.finish(reason_of(sampled), None, turns)
        if turn == episode.budget.max_searches:
            return episode.finish(StopReason.SEARCHES_SPENT if kind else reason_of(sampled), None, turns)
        said.append(sampled)
        if kind == SEARCH:
            outcome = yield from episode.search(content)
            before, after = Piece(f"\n\n{opening(INFORMATION)}"), Piece(f"{closing(INFORMATION)}\n\n")
            found = Piece(episode.documents(outcome, search_r1_document), outside=True)
            said += episode.observe(before, found, after)
        else:
            said += episode.correct(Piece(INVALID))
    raise AssertionError("the last turn ends the episode")


def _action(text: str) -> tuple[str, str]:
    """Return the first action of a turn, search or answer, and its content; empty strings without one."""
    match = _ACTION.search(text)
    content = match[2].strip() if match else ""
    return (match[1], content) if match and content else ("", "")


def _with_question_mark(question: str) -> str:
    return question if question.rstrip().endswith("?") else f"{question.rstrip()}?"
