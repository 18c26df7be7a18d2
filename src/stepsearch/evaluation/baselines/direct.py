"""Answering without search.

The prompt is that of FlashRAG's pipeline without retrieval (github.com/RUC-NLPIR/FlashRAG), from which Search-R1 has
its data sets. A model that knows only the bare prompt of the tag grammar is told in it that no search is left.
"""

from stepsearch.evaluation.baselines.answers import first_line, line_end
from stepsearch.evaluation.text_episode import Play, TextEpisode
from stepsearch.evaluation.text_generation import ANSWER_STOP, fill
from stepsearch.protocol import NO_SEARCH_LEFT, PROMPTS, Answer, parse_turn

PROMPT = (
    "Answer the question based on your own knowledge. Only give me the answer and do not output any other words.\n"
    "Question: {question}\nAnswer:"
)
GRAMMAR_PROMPT = PROMPTS["question"] + NO_SEARCH_LEFT


def direct(episode: TextEpisode) -> Play:
    """Ask for the answer alone."""
    if not episode.reads_instructions:
        said = yield from episode.sample(fill(GRAMMAR_PROMPT, question=episode.question), stops=[ANSWER_STOP])
        return episode.answered(tagged_answer(said.text), said)
    said = yield from episode.sample(fill(PROMPT, question=episode.question), until=line_end)
    return episode.answered(first_line(said.text), said)


def tagged_answer(text: str) -> str | None:
    """Return what the answer tag of a text holds, None without one."""
    action = parse_turn(text)
    return action.text if isinstance(action, Answer) else None
