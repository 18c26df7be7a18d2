"""Reasoning before the answer, without search: Wei et al. 2022, without examples as Kojima et al. 2022 do it.

The phrase before the answer is the one of IRCoT's prompts, so that both are read by one rule.
"""

from stepsearch.evaluation.baselines.answers import ANSWER_PHRASE, answer_line_end, reasoned_answer
from stepsearch.evaluation.text_episode import Play, TextEpisode
from stepsearch.evaluation.text_generation import fill

PROMPT = (
    "Answer the question. Think step by step, and end with a line that holds the answer and nothing more, like this: "
    f"{ANSWER_PHRASE} Beijing\n"
    "Question: {question}\nAnswer: Let's think step by step."
)


def chain_of_thought(episode: TextEpisode) -> Play:
    """Ask for steps of reasoning and then the answer."""
    said = yield from episode.sample(
        fill(PROMPT, question=episode.question), max_tokens=episode.budget.reasoning_tokens, until=answer_line_end
    )
    return episode.answered(reasoned_answer(said), said)
