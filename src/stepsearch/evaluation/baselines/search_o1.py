r"""Search-o1 (Li et al. 2025, arXiv 2501.05366; `scripts/run_search_o1.py` and `scripts/prompts.py` of its code).

The model reasons and may write a query between its two tokens; a second call to the same model, Reason-in-Documents,
draws from the documents what helps, and only that enters the reasoning. The answer stands in \boxed{}.
"""

import re
from collections.abc import Generator

from stepsearch.evaluation.baselines.documents import search_o1_document
from stepsearch.evaluation.text_episode import Move, Play, Reply, TextEpisode
from stepsearch.evaluation.text_generation import Piece, Sampled, Stop, TextEnd, fill, joined
from stepsearch.protocol import SEARCH_FAILED, neutralise_control
from stepsearch.search.guarded_search import SearchOutcome
from stepsearch.types import StopReason

BEGIN_QUERY, END_QUERY = "<|begin_search_query|>", "<|end_search_query|>"
BEGIN_RESULT, END_RESULT = "<|begin_search_result|>", "<|end_search_result|>"
FINAL = "**Final Information**"
NOTHING_FOUND = "No helpful information found."
SPENT = "The maximum search limit is exceeded. You are not allowed to search."
REPEATED = "You have searched this query. Please refer to previous results."
FURTHER_TURNS = 5
"""The source allows so many more turns than searches (15 and 10)."""

PROMPT = (
    "You are a reasoning assistant with the ability to perform web searches to help you answer the user's question "
    "accurately. You have special tools:\n\n"
    f"- To perform a search: write {BEGIN_QUERY} your query here {END_QUERY}.\n"
    "Then, the system will search and analyze relevant web pages, then provide you with helpful information in the "
    f"format {BEGIN_RESULT} ...search results... {END_RESULT}.\n\n"
    "You can repeat the search process multiple times if necessary. The maximum number of search attempts is limited "
    "to {limit}.\n\nOnce you have all the information you need, continue your reasoning.\n\n"
    "Example:\n"
    'Question: "Alice David is the voice of Lara Croft in a video game developed by which company?"\n'
    "Assistant thinking steps:\n"
    "- I need to find out who voices Lara Croft in the video game.\n"
    "- Then, I need to determine which company developed that video game.\n\n"
    f"Assistant:\n{BEGIN_QUERY}Alice David Lara Croft voice{END_QUERY}\n\n"
    "(System returns processed information from relevant web pages)\n\n"
    "Assistant thinks: The search results indicate that Alice David is the voice of Lara Croft in a specific video "
    "game. Now, I need to find out which company developed that game.\n\n"
    f"Assistant:\n{BEGIN_QUERY}video game developed by Alice David Lara Croft{END_QUERY}\n\n"
    "(System returns processed information from relevant web pages)\n\n"
    "Assistant continues reasoning with the new information...\n\n"
    "Remember:\n"
    f"- Use {BEGIN_QUERY} to request a web search and end with {END_QUERY}.\n"
    "- When done searching, continue your reasoning.\n\n"
    "Please answer the following question. You should think step by step to solve it.\n\n"
    "Provide your final answer in the format \\boxed{{YOUR_ANSWER}}.\n\n"
    "Question:\n{question}\n\n"
)
READ_PROMPT = (
    "**Task Instruction:**\n\n"
    "You are tasked with reading and analyzing web pages based on the following inputs: **Previous Reasoning Steps**, "
    "**Current Search Query**, and **Searched Web Pages**. Your objective is to extract relevant and helpful "
    "information for **Current Search Query** from the **Searched Web Pages** and seamlessly integrate this "
    "information into the **Previous Reasoning Steps** to continue reasoning for the original question.\n\n"
    "**Guidelines:**\n\n"
    "1. **Analyze the Searched Web Pages:**\n"
    "- Carefully review the content of each searched web page.\n"
    "- Identify factual information that is relevant to the **Current Search Query** and can aid in the reasoning "
    "process for the original question.\n\n"
    "2. **Extract Relevant Information:**\n"
    "- Select the information from the Searched Web Pages that directly contributes to advancing the **Previous "
    "Reasoning Steps**.\n"
    "- Ensure that the extracted information is accurate and relevant.\n\n"
    "3. **Output Format:**\n"
    "- **If the web pages provide helpful information for current search query:** Present the information beginning "
    f"with `{FINAL}` as shown below.\n{FINAL}\n\n[Helpful information]\n\n"
    "- **If the web pages do not provide any helpful information for current search query:** Output the following "
    f"text.\n\n{FINAL}\n\n{NOTHING_FOUND}\n\n"
    "**Inputs:**\n"
    "- **Previous Reasoning Steps:**\n{reasoning}\n\n"
    "- **Current Search Query:**\n{query}\n\n"
    "- **Searched Web Pages:**\n{documents}\n\n"
    "Now you should analyze each web page and find helpful information based on the current search query "
    '"{query}" and previous reasoning steps.\n'
)
_TEXT = re.compile(r"^\\text\{(.*)\}$")
QUERY_STOP = Stop(END_QUERY, BEGIN_QUERY)


def search_o1(episode: TextEpisode) -> Play:
    """Reason, search and reason in documents until a turn asks for no search."""
    prompt = fill(PROMPT, limit=str(episode.budget.max_searches), question=episode.question)
    said: list[Piece | Sampled] = []
    asked: set[str] = set()
    for _ in range(episode.budget.max_searches + FURTHER_TURNS):
        sampled = yield from episode.sample(
            prompt, said, max_tokens=episode.budget.reasoning_tokens, stops=[QUERY_STOP]
        )
        said.append(sampled)
        query = _query(sampled.text)
        if query is None:
            return episode.answered(_boxed(_own_words(said)), sampled)
        if not episode.searches_left or query in asked:
            message = REPEATED if episode.searches_left else SPENT
            said += episode.observe(Piece(f"\n{BEGIN_RESULT}\n{message}\n{END_RESULT}\n"))
            continue
        asked.add(query)
        outcome = yield from episode.search(query)
        helpful = yield from _reason_in_documents(episode, outcome, query, joined(said))
        if helpful is None:
            return episode.finish(StopReason.NO_REPLY)
        before, after = Piece(f"\n\n{BEGIN_RESULT}"), Piece(f"{END_RESULT}\n\n")
        said += episode.observe(before, Piece(helpful, outside=True), after)
    answer = _boxed(_own_words(said))
    if answer:
        return episode.finish(StopReason.ANSWERED, answer)
    return episode.finish(StopReason.NO_VALID_ACTION if episode.searches_left else StopReason.SEARCHES_SPENT)


def _reason_in_documents(
    episode: TextEpisode, outcome: SearchOutcome, query: str, reasoning: str
) -> Generator[Move, Reply, str | None]:
    """Return what the model finds helpful in the documents, or that the search failed; None without a reply."""
    if outcome.failed:
        return SEARCH_FAILED
    documents = episode.documents(outcome, search_o1_document)
    prompt = fill(READ_PROMPT, reasoning=Piece(shortened(reasoning), outside=True), query=query, documents=documents)
    said = yield from episode.sample(prompt, recorded=False)
    if said.end is TextEnd.NO_REPLY:
        return None
    _, marker, information = said.text.rpartition(FINAL)
    return neutralise_control(" ".join(information.split()).strip("` ")) if marker else NOTHING_FOUND


def shortened(reasoning: str) -> str:
    """Return the reasoning as numbered steps: the first, the last four, and those with a query or a result."""
    lines = reasoning.replace("\n\n", "\n").split("\n")
    steps = [f"Step {number}: {line}" for number, line in enumerate(lines, 1)]
    kept: list[str] = []
    for index, step in enumerate(steps):
        marked = any(token in step for token in (BEGIN_QUERY, BEGIN_RESULT))
        if len(steps) <= 5 or index == 0 or index >= len(steps) - 4 or marked:
            kept.append(step)
        elif kept[-1] != "...":
            kept.append("...")
    return "\n\n".join(kept)


def _query(text: str) -> str | None:
    """Return the query that a turn ends with, None if it ends with none."""
    _, opening, query = text.rpartition(BEGIN_QUERY)
    if not opening or not query.rstrip().endswith(END_QUERY):
        return None
    return " ".join(query.rstrip().removesuffix(END_QUERY).split()) or None


def _own_words(said: list[Piece | Sampled]) -> str:
    """Return what the model itself said: a result cannot answer."""
    return "".join(part.text for part in said if isinstance(part, Sampled))


def _boxed(text: str) -> str | None:
    r"""Return what the last \boxed{} of a text holds, None without one."""
    _, marker, rest = text.rpartition("\\boxed{")
    depth = 1
    for place, letter in enumerate(rest):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if marker and not depth:
            return _TEXT.sub(r"\1", rest[:place].strip()) or None
    return None
