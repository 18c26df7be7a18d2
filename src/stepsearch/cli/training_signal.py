"""What a run can be rewarded for, told before it starts: questions that lack something earn less, in silence."""

from collections.abc import Sequence

from stepsearch.cli.run_records import corpus_used
from stepsearch.config import Config
from stepsearch.types import Question


def signal_lines(config: Config, questions: Sequence[Question]) -> list[str]:
    """Return how many questions have what step and key rewards are made of, and a warning where that is nothing.

    Args:
        config: all settings; the search's are settled.
        questions: to train on, at least one.

    Raises:
        DataError: the knowledge base cannot be read.
    """
    reward = config.reward
    golden = sum(bool(question.golden_passages) for question in questions)
    keyed = sum(any(sub.search_queries for sub in question.sub_questions) for question in questions)
    lines = [f"{len(questions):,} questions: {golden:,} with golden documents, {keyed:,} with reference queries"]
    if not golden and reward.step_scale:
        lines.append("warning: no question has golden_documents, so that no search earns anything (reward.step_scale)")
    if not keyed and reward.gamma_key:
        lines.append("warning: no question has search_queries, so that no query earns anything (reward.gamma_key)")
    corpus = corpus_used(config, questions)
    if corpus.golden_found == 0:
        lines.append(
            f"warning: none of their {corpus.golden_documents:,} golden documents is in the corpus, so that searches "
            "earn only what others have in common with them: stepsearch audit shows what it has"
        )
    return lines
