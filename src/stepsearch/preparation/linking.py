"""Golden documents under the ids that a corpus gives them, so that a search result is known by its id."""

from collections.abc import Mapping
from dataclasses import replace

from stepsearch.preparation.coverage import Located
from stepsearch.types import Passage, Question


def link(question: Question, locations: Mapping[Passage, Located]) -> Question:
    """Return a question whose golden documents have the ids of the passages that are them.

    An id that the corpus has for that document stays, and so does that of a document that it lacks; of several passages
    the least id counts. Two golden documents that are one passage become one.
    """
    new_ids = {passage.id: _new_id(passage, locations[passage]) for passage in question.golden_passages}
    golden: dict[str, Passage] = {}
    for passage in question.golden_passages:
        golden.setdefault(new_ids[passage.id], replace(passage, id=new_ids[passage.id]))
    sub_questions = tuple(
        replace(sub, golden_passage_id=new_ids.get(sub.golden_passage_id or "", sub.golden_passage_id))
        for sub in question.sub_questions
    )
    return replace(question, golden_passages=tuple(golden.values()), sub_questions=sub_questions)


def _new_id(passage: Passage, located: Located) -> str:
    return passage.id if passage.id in located.passage_ids else min(located.passage_ids, default=passage.id)
