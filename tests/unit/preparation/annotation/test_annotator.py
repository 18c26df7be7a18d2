import json
from dataclasses import replace

import pytest
from chat_server import Fault

from stepsearch.chat_endpoint import Budget, GapKind, ReplyCache
from stepsearch.chat_endpoint.messages import most_tokens, request_key
from stepsearch.data import read_benchmark
from stepsearch.preparation.annotation import AnnotationSettings, Tally, annotate, estimate
from stepsearch.preparation.annotation.rewriting import rewriting_request
from stepsearch.search import GuardedSearch
from stepsearch.search.bm25_search import BM25SearchEngine

# One document, so that a query that misses is rejected.
SETTINGS = AnnotationSettings(queries_per_step=2, top_k=1, retries=1)


def run(questions, endpoint, engines, settings=SETTINGS):
    blocks = list(annotate(questions, endpoint, engines, settings))
    finished = [question for block in blocks for question in block.questions]
    return finished, sum((block.tally for block in blocks), Tally()), [gap for block in blocks for gap in block.gaps]


def test_sub_questions_are_rewritten_and_queries_that_find_are_kept(question, open_endpoint, engines, model):
    (annotated,), tally, gaps = run([question], open_endpoint(), engines)
    assert [sub.question for sub in annotated.sub_questions] == ["Up screenwriter?", "Ann Lee place of birth?"]
    assert [sub.search_queries for sub in annotated.sub_questions] == [
        ("Up screenwriter",),
        ("Ann Lee place of birth",),
    ]
    assert replace(annotated, sub_questions=()) == replace(question, sub_questions=())
    assert tally == Tally(questions=1, sub_questions=2, queries_proposed=4, queries_rejected=2, queries_kept=2)
    assert gaps == []
    assert len(model.requests) == 2


def test_progress_adds_up_to_the_questions(question, open_endpoint, engines):
    told = []
    questions = [replace(question, id=str(n)) for n in range(3)]
    list(annotate(questions, open_endpoint(), engines, replace(SETTINGS, block=2), told.append))
    assert sum(told) == 3


@pytest.mark.parametrize(
    "text",
    [
        '{"sub_questions": [{"sub_qu',
        '{"sub_questions": []}',
        '{"wrong": "schema"}',
        json.dumps({"sub_questions": [{"sub_question": "Who wrote Up?", "answer": "Ann Lee"}] * 2}),
    ],
    ids=["truncated", "too few", "schema", "another answer"],
)
def test_a_malformed_reply_is_asked_for_again(question, open_endpoint, engines, model, text):
    model.faults.append(Fault("say", text=text))
    (annotated,), tally, _ = run([question], open_endpoint(), engines)
    assert annotated.sub_questions[0].question == "Up screenwriter?"
    assert tally.rewriting_malformed == 0
    assert len(model.requests) == 3


def test_steps_stay_as_they_are_when_every_rewriting_is_malformed(question, open_endpoint, engines, model):
    model.faults.extend([Fault("say", text="{")] * 2)
    (annotated,), tally, (gap,) = run([question], open_endpoint(), engines)
    assert [sub.question for sub in annotated.sub_questions] == ["Up >> screenwriter", "Ann Lee >> place of birth"]
    assert tally.rewriting_malformed == 1
    assert (gap.question_id, gap.part, gap.kind) == ("q", "rewriting", GapKind.MALFORMED)
    assert len(model.requests) == 3


def test_the_rules_write_queries_when_every_reply_is_malformed(question, open_endpoint, engines, model):
    model.answer = lambda body: "sorry"
    (annotated,), tally, gaps = run([question], open_endpoint(), engines)
    # As the source has them; they passed the vote.
    assert annotated == question
    assert tally == Tally(
        questions=1,
        rewriting_malformed=1,
        queries_malformed=1,
        sub_questions=2,
        sub_questions_from_rules=2,
        rule_queries_kept=2,
    )
    assert [gap.part for gap in gaps] == ["rewriting", "queries"]
    assert len(model.requests) == 4


def test_the_rules_write_queries_for_steps_that_had_none(question, open_endpoint, engines, model):
    bare = replace(question, sub_questions=tuple(replace(sub, search_queries=()) for sub in question.sub_questions))
    model.answer = lambda body: "sorry"
    (annotated,), _, _ = run([bare], open_endpoint(), engines)
    assert annotated.sub_questions[1].search_queries == (
        "Ann Lee place of birth",
        "birthplace of Ann Lee",
        "where was Ann Lee born",
    )


def test_a_request_that_fails_is_filled_in_and_told_apart(question, open_endpoint, engines, model):
    model.faults.extend([Fault("status", 400), Fault("status", 400)])
    (annotated,), tally, gaps = run([question], open_endpoint(), engines)
    assert annotated == question
    assert (tally.rewriting_failed, tally.queries_failed) == (1, 1)
    assert [gap.kind for gap in gaps] == [GapKind.FAILED] * 2


def test_a_query_that_names_its_answer_is_dropped(question, open_endpoint, engines, model):
    rewriting = model.answer

    def answer(body):
        if "Rewrite every step" in body["messages"][0]["content"]:
            return rewriting(body)
        return json.dumps({"steps": [{"queries": ["Up Ann Lee", "Up"]}, {"queries": ["Ann Lee born in Rome"]}]})

    model.answer = answer
    (annotated,), tally, _ = run([question], open_endpoint(), engines)
    assert [sub.search_queries for sub in annotated.sub_questions] == [("Up",), ("Ann Lee birthplace",)]
    assert (tally.queries_leaking, tally.sub_questions_from_rules) == (2, 1)


def test_a_hop_that_nothing_finds_has_no_queries(question, open_endpoint):
    nowhere = {"bm25": GuardedSearch(BM25SearchEngine.from_passages([]))}
    (annotated,), tally, _ = run([question], open_endpoint(), nowhere)
    assert [sub.search_queries for sub in annotated.sub_questions] == [(), ()]
    assert tally.sub_questions_without_queries == 2


def test_without_golden_documents_every_query_stays(question, open_endpoint, engines):
    bare = replace(
        question,
        golden_passages=(),
        sub_questions=tuple(replace(sub, golden_passage_id=None) for sub in question.sub_questions),
    )
    (annotated,), tally, _ = run([bare], open_endpoint(), engines)
    assert all(len(sub.search_queries) == 2 for sub in annotated.sub_questions)
    assert tally.sub_questions_without_vote == 2


def test_a_question_without_steps_gets_the_model_s_or_stays(question, open_endpoint, engines, model):
    bare = replace(question, sub_questions=())
    steps = [{"sub_question": "Who wrote Up?", "answer": "Ann Lee"}]
    model.faults.append(Fault("say", text=json.dumps({"sub_questions": steps})))
    (annotated,), _, _ = run([bare], open_endpoint(), engines)
    assert [sub.question for sub in annotated.sub_questions] == ["Who wrote Up?"]
    model.faults.extend([Fault("say", text="{")] * 2)
    (untouched,), tally, _ = run([bare], open_endpoint(), engines)
    assert untouched == bare
    assert (tally.without_steps, tally.rewriting_malformed) == (1, 1)


def test_a_spent_budget_leaves_whole_questions(question, open_endpoint, engines, model):
    questions = [replace(question, id=str(n), question=f"{n} {question.question}") for n in range(4)]
    one_by_one = replace(SETTINGS, block=1)
    # A reply costs 120 tokens. Two of the first question, and one of the second, whose queries are asked for by
    # sub-question and known: the rewriting of the third might go beyond.
    budget = Budget(max_tokens=sum(most_tokens(rewriting_request(questions[0]))) + 250)
    cache = ReplyCache()
    finished, tally, gaps = run(questions, open_endpoint(budget, cache), engines, one_by_one)
    assert tally.not_reached == 2
    assert [after == before for after, before in zip(finished, questions, strict=True)] == [False, False, True, True]
    assert gaps == []
    assert len(model.requests) == 3
    # With more money the run goes on where it stopped.
    _, tally, _ = run(questions, open_endpoint(cache=cache), engines, one_by_one)
    assert tally.not_reached == 0
    assert len(model.requests) == 5


def test_several_engines_vote(question, open_endpoint, engines, shelf):
    blind = GuardedSearch(shelf({}))
    _, two, _ = run([question], open_endpoint(), {**engines, "blind": blind})
    assert two.queries_kept == 2
    _, three, _ = run([question], open_endpoint(), {**engines, "blind": blind, "blinder": blind})
    assert three.queries_kept == 0


def test_an_estimate_counts_what_would_be_sent(question, open_endpoint, engines, model):
    cache = ReplyCache()
    endpoint = open_endpoint(cache=cache)

    def cached(request):
        return cache.get(request_key(endpoint.base_url, "test", request))

    before = estimate([question], 2, cached)
    assert (before.requests, before.cached) == (2, 0)
    # The prompts: about 1,000 and 800 characters with their schemas, four to a token.
    assert 350 < before.prompt_tokens < 900
    assert 20 < before.completion_tokens < 100
    run([question], endpoint, engines)
    assert estimate([question], 2, cached) == type(before)(0, 2, 0, 0)


def test_genuine_questions(real_data, open_endpoint, model):
    benchmark = read_benchmark(real_data / "musique_ans_v1.0_dev.sample100.jsonl", "musique")
    engines = {"bm25": GuardedSearch(BM25SearchEngine.from_passages(benchmark.passages))}
    finished, tally, gaps = run(benchmark.questions[:10], open_endpoint(), engines, replace(SETTINGS, top_k=3))
    assert gaps == []
    assert tally.sub_questions == sum(len(question.sub_questions) for question in finished)
    assert tally.queries_proposed == 2 * tally.sub_questions
    # The bare sub-question finds its document for most hops; the nonsense query hardly ever does.
    assert tally.queries_kept > 0.5 * tally.sub_questions
    assert tally.queries_rejected >= 0.9 * tally.sub_questions
