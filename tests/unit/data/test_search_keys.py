import json

import pytest

from stepsearch.data.musique import read_musique
from stepsearch.data.search_keys import RELATION_QUERIES, fill_references, reference_queries, split_relation
from stepsearch.search.bm25_search import BM25SearchEngine


@pytest.mark.parametrize(
    ("text", "answers", "queries"),
    [
        (
            "Here Comes the Boom >> screenwriter",
            [],
            (
                "Here Comes the Boom screenwriter",
                "screenwriter of Here Comes the Boom",
                "who is the screenwriter of Here Comes the Boom",
            ),
        ),
        (
            "#1 >> place of birth",
            ["Ann Lee"],
            ("Ann Lee place of birth", "birthplace of Ann Lee", "where was Ann Lee born"),
        ),
        (
            "Notus >> located in the administrative territorial entity",
            [],
            (
                "Notus located in the administrative territorial entity",
                "administrative territorial entity of Notus",
                "which administrative territorial entity is Notus located in",
            ),
        ),
        (
            "#1 >> followed by",
            ["Up"],
            ("Up followed by", "successor of Up", "what is Up followed by"),
        ),
        (
            "KTRP >> licensed to broadcast to",
            [],
            (
                "KTRP licensed to broadcast to",
                "broadcast licence of KTRP",
                "which place is KTRP licensed to broadcast to",
            ),
        ),
        (
            "#2 >> member of political party",
            ["x", "Debs"],
            ("Debs member of political party", "political party of Debs", "which political party is Debs a member of"),
        ),
        ("Up >> record label", [], ("Up record label", "record label of Up", "what is the record label of Up")),
        ("Up >> dedicated to", [], ("Up dedicated to", "what is Up dedicated to")),
        (
            "What is the name of the famous bridge in #1 ?",
            ["Venice"],
            (
                "What is the name of the famous bridge in Venice",
                "name of the famous bridge in Venice",
                "name famous bridge Venice",
            ),
        ),
        (
            "In which years did the war with #1 occur?",
            ["Pyrrhus"],
            (
                "In which years did the war with Pyrrhus occur",
                "years the war with Pyrrhus occur",
                "years war Pyrrhus occur",
            ),
        ),
        (
            "who is the chairman of #1",
            ["Bank of America"],
            ("who is the chairman of Bank of America", "chairman of Bank of America", "chairman Bank of America"),
        ),
        ("", [], ()),
    ],
)
def test_reference_queries(text, answers, queries):
    assert reference_queries(text, answers) == queries


@pytest.mark.parametrize("relation", sorted(RELATION_QUERIES))
def test_every_known_relation_gives_three_different_queries_with_the_subject(relation):
    queries = reference_queries(f"Subject >> {relation}", [])
    assert queries[0] == f"Subject {relation}"
    assert len(queries) >= 2
    assert len(set(queries)) == len(queries)
    assert all("Subject" in query and "{" not in query for query in queries)


@pytest.mark.parametrize(
    ("text", "answers", "filled"),
    [
        ("What is #1 's Book of Healing?", ["Avicenna"], "What is Avicenna's Book of Healing?"),
        ("Along with ABC and #1 , what other?", ["NBC"], "Along with ABC and NBC, what other?"),
        ("when did the #1 agree", ["the USSR"], "when did the USSR agree"),
        ("what government during #1", ["During the Korean War"], "what government during the Korean War"),
        ("who has more #3 or #2", ["a", "b", "c"], "who has more c or b"),
        ("the #1 song", [], "the #1 song"),
        ("#2 and #11", ["x"], "#2 and #11"),
        ("#1 #1", ["x"], "x x"),
        ("#1", [r"a\1"], r"a\1"),
    ],
)
def test_fill_references(text, answers, filled):
    assert fill_references(text, answers) == filled


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Up >> author", ("Up", "author")),
        ("#1>>author", ("#1", "author")),
        ("A >> B >> author", ("A >> B", "author")),
        ("Up >> ", None),
        (">> author", None),
        ("Who wrote Up?", None),
    ],
)
def test_split_relation(text, parts):
    assert split_relation(text) == parts


def test_first_query_finds_its_golden_passage_where_the_bare_sub_question_does_not(real_data):
    path = real_data / "musique_ans_v1.0_dev.sample100.jsonl"
    benchmark = read_musique(path)
    subs = [sub for question in benchmark.questions for sub in question.sub_questions]
    records = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    bare = [hop["question"] for record in records for hop in record["question_decomposition"]]
    engine = BM25SearchEngine.from_passages(benchmark.passages)

    def found_among_three(queries):
        results = engine.search_batch(queries, 3)
        return sum(
            sub.golden_passage_id in {passage.id for passage in passages}
            for sub, passages in zip(subs, results, strict=True)
        )

    # Of 231 hops. Measured: 203 and 128.
    assert found_among_three([sub.search_queries[0] for sub in subs]) > 195
    assert found_among_three(bare) < 140
