"""One search with the question itself as the query, then the answer.

The prompt is FlashRAG's for naive retrieval-augmented generation (github.com/RUC-NLPIR/FlashRAG). A model that knows
only the bare prompt of the tag grammar is shown an episode of it after its only search.
"""

from stepsearch.evaluation.baselines.answers import first_line, line_end
from stepsearch.evaluation.baselines.direct import tagged_answer
from stepsearch.evaluation.baselines.documents import search_r1_document, step_search_document
from stepsearch.evaluation.text_episode import Play, TextEpisode
from stepsearch.evaluation.text_generation import ANSWER_STOP, fill
from stepsearch.protocol import (
    INFORMATION_PREFIX,
    INFORMATION_SUFFIX,
    NO_SEARCH_LEFT,
    PROMPTS,
    SEARCH,
    closing,
    opening,
)

PROMPT = (
    "Answer the question based on the given document. Only give me the answer and do not output any other words.\n"
    "The following are given documents.\n\n{documents}\n\nQuestion: {question}\nAnswer:"
)
GRAMMAR_PROMPT = (
    PROMPTS["question"]
    + f"{opening(SEARCH)}{{question}}{closing(SEARCH)}{INFORMATION_PREFIX}{{documents}}{INFORMATION_SUFFIX}"
    + NO_SEARCH_LEFT
)


def single_shot_rag(episode: TextEpisode) -> Play:
    """Search once, show what was found, and ask for the answer alone."""
    outcome = yield from episode.search(episode.question)
    if not episode.reads_instructions:
        documents = episode.documents(outcome, step_search_document)
        prompt = fill(GRAMMAR_PROMPT, question=episode.question, documents=documents)
        said = yield from episode.sample(prompt, stops=[ANSWER_STOP])
        return episode.answered(tagged_answer(said.text), said)
    documents = episode.documents(outcome, search_r1_document)
    said = yield from episode.sample(fill(PROMPT, question=episode.question, documents=documents), until=line_end)
    return episode.answered(first_line(said.text), said)
