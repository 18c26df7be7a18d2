"""2WikiMultiHopQA's published JSON list: HotpotQA's fields plus `evidences: [[subject, relation, object]]`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stepsearch.data.benchmark import Benchmark, Entry, collect, or_bare
from stepsearch.data.hotpotqa import all_or_none, read_context, supporting_titles, without_qualifier
from stepsearch.data.record_files import read_records
from stepsearch.data.records import Record
from stepsearch.data.search_keys import reference_queries
from stepsearch.types import Passage, Question, SubQuestion

# Hop counts of the question types, as the benchmark's paper defines them.
_HOPS = {"comparison": 2, "inference": 2, "compositional": 2, "bridge_comparison": 4}


def read_two_wiki(path: Path) -> Benchmark:
    """Return a 2WikiMultiHopQA file.

    Raises:
        DataError: the file cannot be read or a record is malformed.
    """
    return collect(read_records(path), "2wiki", or_bare(two_wiki_entry, "2wiki"))


def two_wiki_entry(record: Record) -> Entry:
    """Return one record as a question with its context; each evidence becomes a sub-question.

    Raises:
        DataError: a key is missing or of the wrong type.
    """
    paragraphs = read_context(record, joint=" ")
    titles = supporting_titles(record)
    golden = all_or_none([paragraphs.get(title) for title in titles])
    kind = record.text("type", default="")
    question = Question(
        id=record.identifier("_id"),
        question=record.filled_text("question"),
        answers=(record.filled_text("answer"),),
        sub_questions=_sub_questions(_answers_by_hop(record), dict(zip(titles, golden, strict=False))),
        golden_passages=golden,
        dataset="2wiki",
        hops=_HOPS.get(kind),
        kind=kind,
    )
    return Entry(question, tuple(paragraphs.values()))


def _answers_by_hop(record: Record) -> dict[tuple[str, str], list[str]]:
    """Return the objects of each (subject, relation), so that two directors of one film are one hop."""
    answers: dict[tuple[str, str], list[str]] = {}
    for position, evidence in enumerate(record.items("evidences")):
        match evidence:
            case [str(subject), str(relation), str(answer)]:
                answers.setdefault((subject.strip(), relation.strip()), []).append(answer.strip())
            case _:
                raise record.error(f"evidences[{position}] must be [subject, relation, object]")
    return answers


def _sub_questions(
    answers: Mapping[tuple[str, str], Sequence[str]], golden: Mapping[str, Passage]
) -> tuple[SubQuestion, ...]:
    support = _passage_of_subject(list(dict.fromkeys(subject for subject, _ in answers)), golden)
    return tuple(
        SubQuestion(
            question=f"{subject} >> {relation}",
            answer=", ".join(dict.fromkeys(objects)),
            search_queries=reference_queries(f"{subject} >> {relation}", ()),
            golden_passage_id=support.get(subject),
            subject=subject,
            relation=relation,
        )
        for (subject, relation), objects in answers.items()
    )


def _passage_of_subject(subjects: Sequence[str], golden: Mapping[str, Passage]) -> dict[str, str]:
    """Return the golden passage's id of each subject that has one.

    A subject is often named otherwise than its article: "The Serpent's Egg" for "The Serpent's Egg (film)", which the
    title shows, or "Matilda of Brabant" for "Matilda of Brabant, Countess of Holland", which only the order shows:
    where there are as many subjects as supporting titles, they correspond.
    """
    plain = {without_qualifier(title).casefold(): passage.id for title, passage in golden.items()}
    by_title = {subject: plain[key] for subject in subjects if (key := subject.casefold()) in plain}
    by_title |= {subject: golden[subject].id for subject in subjects if subject in golden}
    if len(subjects) != len(golden):
        return by_title
    return {subject: passage.id for subject, passage in zip(subjects, golden.values(), strict=True)} | by_title
