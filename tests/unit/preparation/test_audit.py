import json
from dataclasses import replace

import pytest

from stepsearch.data.knowledge_base import KnowledgeBase
from stepsearch.data.readers import read_benchmark
from stepsearch.errors import DataError
from stepsearch.preparation.audit import audit
from stepsearch.preparation.audit_tables import coverage_table, notes, recall_table
from stepsearch.preparation.completion import add_passages, missing_documents
from stepsearch.preparation.coverage import Located, Match, locate
from stepsearch.preparation.retrieval_ceiling import recall_of
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.stored_passages import StoredPassages
from stepsearch.types import Passage, Question, SubQuestion

FILM = Passage.from_text("Up is a film that was written by Ann Lee in the spring of 1990 for the Rome festival.", "Up")
ANN = Passage.from_text("Ann Lee is a writer who was born in Rome and lives in Oslo with two cats.", "Ann Lee")
OTHERS = [Passage.from_text(f"Town {n} is a town with {n} bridges.", f"Town {n}") for n in range(6)]
QUESTION = Question(
    id="q1",
    question="Where was the writer of Up born?",
    answers=("Rome",),
    sub_questions=(
        SubQuestion("Up >> writer", "Ann Lee", ("Up film", "who wrote Up"), FILM.id),
        SubQuestion("Ann Lee >> place of birth", "Rome", ("Ann Lee born",), ANN.id),
    ),
    golden_passages=(FILM, ANN),
    dataset="musique",
    hops=2,
)
BARE = Question(id="b1", question="Who?", answers=("A",), dataset="bamboogle")


def where(documents, corpus, **options):
    return locate(documents, corpus, BM25SearchEngine.from_passages(corpus), **options)


def build(folder, passages):
    KnowledgeBase.create(folder, passages)
    return KnowledgeBase.open(folder), BM25SearchEngine.build(folder)


def test_by_id_with_the_same_content():
    assert where([FILM], [FILM, *OTHERS])[FILM] == Located(Match.ID, frozenset({FILM.id}))


def test_by_text_under_another_id_case_and_spacing():
    same = Passage("17", FILM.text.upper().replace(" ", "  "), "Elsewhere")
    assert where([FILM], [same, *OTHERS])[FILM] == Located(Match.TEXT, frozenset({"17"}))


def test_an_id_proves_nothing_where_the_content_differs():
    golden, other = replace(FILM, id="0"), replace(OTHERS[0], id="0")
    assert where([golden], [other, *OTHERS[1:]])[golden] == Located(Match.MISSING, frozenset(), id_taken=True)
    assert where([golden], [other, replace(FILM, id="5")])[golden] == Located(Match.TEXT, frozenset({"5"}), True)


def test_near_duplicate_by_cosine_at_the_stated_threshold():
    # "spring" has become "autumn". The 16 shared words weigh 1 each, but for "the", which stands twice and so weighs 4;
    # "spring" and "autumn" weigh (ln(3/2) + 1)^2 = 1.975: 19 / (19 + 1.975) = .906.
    near = Passage("n", FILM.text.replace("spring", "autumn"), "Up")
    corpus = [near, *OTHERS]
    assert where([FILM], corpus)[FILM] == Located(Match.NEAR, frozenset({"n"}))
    assert where([FILM], corpus, threshold=0.91)[FILM].match is Match.MISSING


def test_recall_by_way_and_depth():
    corpus = [*OTHERS, FILM, ANN]
    engine = BM25SearchEngine.from_passages(corpus)
    [found, nothing] = recall_of([QUESTION, BARE], where([FILM, ANN], corpus), engine)
    assert nothing == {}
    assert {way: recall.queries for way, recall in found.items()} == {
        "question": 1,
        "first_queries": 2,
        "all_queries": 3,
    }
    # Each first query finds its own document; the question alone has place for one document at k = 1.
    assert found["first_queries"].at_depth == {1: 1.0, 3: 1.0, 5: 1.0, 10: 1.0}
    assert found["question"].at_depth == {1: 0.5, 3: 1.0, 5: 1.0, 10: 1.0}


def test_what_the_corpus_lacks_is_never_found():
    corpus = [*OTHERS, FILM]
    [found] = recall_of([QUESTION], where([FILM, ANN], corpus), BM25SearchEngine.from_passages(corpus))
    assert found["all_queries"].at_depth[10] == 0.5


def test_a_near_duplicate_counts_as_found():
    corpus = [*OTHERS, ANN, Passage("n", FILM.text.replace("spring", "autumn"), "Up")]
    [found] = recall_of([QUESTION], where([FILM, ANN], corpus), BM25SearchEngine.from_passages(corpus))
    assert found["first_queries"].at_depth[1] == 1.0


def test_shares_per_dataset_and_hop_count(tmp_path):
    knowledge_base, engine = build(tmp_path / "kb", [*OTHERS, FILM])
    whole = replace(QUESTION, id="q2", golden_passages=(FILM,), hops=1)
    none = replace(QUESTION, id="q3", golden_passages=(ANN,), hops=1)
    result = audit([QUESTION, whole, none, BARE], knowledge_base, engine)
    found = {
        (g.dataset, g.hops): (g.questions, g.with_golden, g.all_found, g.some_found, g.none_found)
        for g in result.groups
    }
    assert found == {
        ("musique", None): (3, 3, 1, 1, 1),
        ("musique", 1): (2, 2, 1, 0, 1),
        ("musique", 2): (1, 1, 0, 1, 0),
        ("bamboogle", None): (1, 0, 0, 0, 0),
    }
    everything = result.groups[0]
    # FILM is needed twice and there, ANN is needed twice and missing.
    assert everything.documents == {Match.ID: 2, Match.TEXT: 0, Match.NEAR: 0, Match.MISSING: 2}
    assert everything.to_json()["share_all"] == pytest.approx(1 / 3)
    assert result.missing == [ANN]
    report = json.loads(json.dumps(result.to_json()))
    assert report["missing_documents"] == [{"id": ANN.id, "title": "Ann Lee", "questions": ["q1", "q3"]}]
    bare = report["groups"][-1]
    assert (bare["share_all"], bare["recall"]) == (None, {})
    assert notes(result) == [
        "bamboogle: none of the 1 questions has golden documents, and so there are no step rewards and no golden recall"
    ]
    assert (coverage_table(result).row_count, recall_table(result).row_count) == (4, 9)


def test_completing_adds_what_is_missing_and_indexes_it(tmp_path):
    folder = tmp_path / "kb"
    knowledge_base, engine = build(folder, [*OTHERS, replace(FILM, id="7")])
    before = audit([QUESTION], knowledge_base, engine)
    assert add_passages(folder, missing_documents(before.locations)) == 1
    assert list(KnowledgeBase.open(folder)) == [*OTHERS, replace(FILM, id="7"), ANN]
    after = audit([QUESTION], KnowledgeBase.open(folder), BM25SearchEngine.open(folder))
    assert (after.groups[0].all_found, after.missing) == (1, [])
    assert after.groups[0].recall["first_queries"][1] == 1.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]


def test_what_was_added_to_the_knowledge_base_is_audited_and_lasts_a_completion(tmp_path):
    folder = tmp_path / "kb"
    _, engine = build(folder, OTHERS)
    engine.add_documents([f"{FILM.text} Twice."])
    engine.save(folder)
    golden = replace(QUESTION, golden_passages=(Passage.from_text(f"{FILM.text} Twice."), ANN))
    corpus = StoredPassages.open(folder)
    result = audit([golden], corpus, BM25SearchEngine.open(folder))
    assert (result.passages, result.missing) == (7, [ANN])
    assert add_passages(folder, [ANN]) == 1
    assert list(StoredPassages.open(folder)) == [*corpus, ANN]
    assert not (folder / "added").exists()


def test_a_missing_document_whose_id_is_taken_is_added_under_its_hash(tmp_path):
    golden = replace(ANN, id="0")
    corpus = [replace(OTHERS[0], id="0"), FILM]
    knowledge_base, engine = build(tmp_path / "kb", corpus)
    result = audit([replace(QUESTION, golden_passages=(golden,))], knowledge_base, engine)
    add_passages(tmp_path / "kb", missing_documents(result.locations))
    assert list(KnowledgeBase.open(tmp_path / "kb")) == [*corpus, ANN]


def test_a_completion_that_fails_leaves_the_knowledge_base_as_it_was(tmp_path, monkeypatch):
    folder = tmp_path / "kb"
    build(folder, OTHERS)

    def fail(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BM25SearchEngine, "build", fail)
    with pytest.raises(DataError, match="kb cannot be written: No space left on device"):
        add_passages(folder, [FILM])
    assert list(KnowledgeBase.open(folder)) == OTHERS
    assert len(BM25SearchEngine.open(folder).search("town", 10)) == len(OTHERS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]


def test_genuine_questions_of_one_benchmark_against_the_paragraphs_of_another(real_data, tmp_path):
    hotpot = read_benchmark(real_data / "hotpot_dev_distractor_v1.sample100.json", "hotpotqa")
    musique = read_benchmark(real_data / "musique_ans_v1.0_dev.sample100.jsonl", "musique")
    knowledge_base, engine = build(tmp_path / "kb", hotpot.passages)
    result = audit([*hotpot.questions, *musique.questions], knowledge_base, engine)
    whole, other = (group for group in result.groups if group.hops is None)
    assert (whole.dataset, whole.all_found, whole.documents[Match.ID]) == ("hotpotqa", 100, 200)
    # Of 200 golden documents BM25 puts 85 first for the questions, and 179 for their titles.
    assert whole.recall["question"] == pytest.approx({1: 0.425, 3: 0.745, 5: 0.85, 10: 0.94})
    assert whole.recall["first_queries"] == pytest.approx({1: 0.895, 3: 0.98, 5: 0.99, 10: 1.0})
    assert (whole.asked["question"], whole.queries["first_queries"]) == (100, 2.0)
    assert (other.dataset, other.questions, other.all_found) == ("musique", 100, 0)
    needed = [passage for question in musique.questions for passage in question.golden_passages]
    assert sum(other.documents.values()) == len(needed)
    assert len(result.missing) == len({p for p in needed if result.locations[p].match is Match.MISSING})
