"""What a run can be rewarded for, told before it starts: questions that lack something earn less, in silence."""

from collections.abc import Sequence

from stepsearch.cli.run_records import corpus_used
from stepsearch.config import Config
from stepsearch.types import Question


def signal_lines(config: Config, questions: Sequence[Question], own_engine: bool = False) -> list[str]:
    """Return how many questions have what step and key rewards are made of, and a warning where that is nothing.

    Args:
        config: all settings; the search's are settled.
        questions: to train on, at least one.
        own_engine: a script's own engine searches, of whose corpus nothing is known.

    Raises:
        DataError: the knowledge base cannot be read.
    """
    golden = sum(bool(question.golden_passages) for question in questions)
    keyed = sum(any(sub.search_queries for sub in question.sub_questions) for question in questions)
    lines = [f"{len(questions):,} questions: {golden:,} with golden documents, {keyed:,} with reference queries"]
    if not golden and config.reward.pays_searches:
        lines.append("warning: no question has golden_documents, so that no search earns anything (reward.step_scale)")
    if not keyed and config.reward.pays_queries:
        lines.append("warning: no question has search_queries, so that no query earns anything (reward.gamma_key)")
    corpus = None if own_engine else corpus_used(config, questions)
    if corpus is not None and corpus.golden_found == 0:
        lines.append(
            f"warning: the corpus has none of their {corpus.golden_documents:,} golden documents, so that searches "
            "earn little: stepsearch audit shows what it has"
        )
    return lines
