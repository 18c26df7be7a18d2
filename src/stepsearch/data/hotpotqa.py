"""HotpotQA's published JSON list, distractor and fullwiki alike.

{_id, question, answer, type, supporting_facts: [[title, sentence]], context: [[title, [sentences]]]}

The file says which articles a question needs, and neither what is to be asked of each nor what each answers. So a
sub-question here stands for one supporting article: its text and its reference query are the article's title, and its
answer is empty. Nothing is made up: the search-key reward then asks whether the policy searched for each article that
the annotators named. Articles that the question itself names come first, since a searcher can only start from those;
the others keep the order of the supporting facts.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from stepsearch.data.benchmark import Benchmark, Entry, collect, or_bare
from stepsearch.data.record_files import read_records
from stepsearch.data.records import Record
from stepsearch.types import Passage, Question, SubQuestion

_QUALIFIER = re.compile(r"\s*\([^()]*\)$")


def read_hotpotqa(path: Path) -> Benchmark:
    """Return a HotpotQA file.

    Raises:
        DataError: the file cannot be read or a record is malformed.
    """
    return collect(read_records(path), "hotpotqa", or_bare(hotpotqa_entry, "hotpotqa"))


def hotpotqa_entry(record: Record) -> Entry:
    """Return one record as a question with its context.

    Raises:
        DataError: a key is missing or of the wrong type.
    """
    # The sentences carry their own leading spaces.
    paragraphs = read_context(record, joint="")
    text = record.filled_text("question")
    titles = supporting_titles(record)
    golden = all_or_none([paragraphs.get(title) for title in titles])
    question = Question(
        id=record.identifier("_id"),
        question=text,
        answers=(record.filled_text("answer"),),
        sub_questions=_sub_questions(text, titles, dict(zip(titles, golden, strict=False))),
        golden_passages=golden,
        dataset="hotpotqa",
        kind=record.text("type", default=""),
    )
    return Entry(question, tuple(paragraphs.values()))


def without_qualifier(title: str) -> str:
    """Return an article's title without the closing "(film)" or the like that only tells it from its namesakes."""
    return _QUALIFIER.sub("", title) or title


def _sub_questions(question: str, titles: Sequence[str], golden: Mapping[str, Passage]) -> tuple[SubQuestion, ...]:
    lowered = question.lower()
    # Sorting keeps the order of equals.
    ordered = sorted(titles, key=lambda title: without_qualifier(title).lower() not in lowered)
    return tuple(
        SubQuestion(
            question=title,
            answer="",
            search_queries=tuple(dict.fromkeys((without_qualifier(title), title))),
            golden_passage_id=golden[title].id if title in golden else None,
        )
        for title in ordered
    )


def read_context(record: Record, joint: str) -> Mapping[str, Passage]:
    """Return the context's paragraphs by title, the first where a title stands twice; blank ones are left out.

    Args:
        record: holds `context: [[title, [sentences]]]`.
        joint: what stands between two sentences of a paragraph.

    Raises:
        DataError: the context is not of that form.
    """
    passages: dict[str, Passage] = {}
    for position, paragraph in enumerate(record.items("context")):
        match paragraph:
            case [str(title), list(sentences)] if all(isinstance(sentence, str) for sentence in sentences):
                text = joint.join(sentences).strip()
            case _:
                raise record.error(f"context[{position}] must be [title, [sentences]]")
        if text:
            passages.setdefault(title, Passage.from_text(text, title))
    return passages


def supporting_titles(record: Record) -> list[str]:
    """Return the titles of `supporting_facts: [[title, sentence]]` once each, in their order.

    Sentence numbers are not read: some published ones lie past the paragraph's end, and golden passages are whole.

    Raises:
        DataError: the facts are not of that form.
    """
    titles: list[str] = []
    for position, fact in enumerate(record.items("supporting_facts")):
        match fact:
            case [str(title), int()]:
                titles.append(title)
            case _:
                raise record.error(f"supporting_facts[{position}] must be [title, sentence number]")
    return list(dict.fromkeys(titles))


def all_or_none(golden: list[Passage | None]) -> tuple[Passage, ...]:
    """Return the golden passages, or none where one is not in the context, as fullwiki has it.

    Half of them would make recall and information gain look complete when they are not.
    """
    found = tuple(passage for passage in golden if passage is not None)
    return found if len(found) == len(golden) else ()
