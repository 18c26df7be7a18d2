"""What the method is compared with: other ways of answering, with the same model, corpus, retriever and budgets.

Each is a generator function over a `TextEpisode`, in a file that names its source (docs/baselines.md).
"""

from stepsearch.evaluation.baselines.chain_of_thought import chain_of_thought
from stepsearch.evaluation.baselines.direct import direct
from stepsearch.evaluation.baselines.ircot import ircot
from stepsearch.evaluation.baselines.search_o1 import search_o1
from stepsearch.evaluation.baselines.search_r1 import search_r1
from stepsearch.evaluation.baselines.single_shot_rag import single_shot_rag
from stepsearch.evaluation.text_runner import Method

BASELINES: dict[str, Method] = {
    "direct": direct,
    "chain_of_thought": chain_of_thought,
    "single_shot_rag": single_shot_rag,
    "ircot": ircot,
    "search_o1": search_o1,
    "search_r1": search_r1,
}

__all__ = ["BASELINES"]
