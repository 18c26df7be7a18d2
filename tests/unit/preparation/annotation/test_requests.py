"""What is asked of the model, and what is made of its replies."""

import json
from dataclasses import replace

import pytest

from stepsearch.preparation.annotation.leaks import gives_away
from stepsearch.preparation.annotation.query_writing import QueryList, queries_request, read_queries
from stepsearch.preparation.annotation.rewriting import Rewriting, read_rewriting, rewriting_request
from stepsearch.types import SubQuestion


def reply(*steps):
    return json.dumps({"sub_questions": [{"sub_question": text, "answer": answer} for text, answer in steps]})


GOOD = (("Who wrote Up?", "Ann Lee"), ("Where was Ann Lee born?", "Rome"))


class TestRewriting:
    def test_the_request_shows_question_answer_and_steps(self, question):
        request = rewriting_request(question)
        assert request.messages[1].content == (
            "Question: Where was the writer of Up born?\nAnswer: Rome\nSteps:\n"
            "1. Up >> screenwriter\n   answer: Ann Lee\n2. Ann Lee >> place of birth\n   answer: Rome"
        )
        assert request.schema["required"] == ["sub_questions"]
        assert request.schema["additionalProperties"] is False
        assert request.temperature == 0

    def test_documents_are_shown_where_answers_have_to_be_found(self, question):
        first, second = question.sub_questions
        shown = (
            rewriting_request(replace(question, sub_questions=(first, replace(second, answer="")))).messages[1].content
        )
        assert "2. Ann Lee >> place of birth\n   answer: (not given" in shown
        assert shown.endswith("Documents:\n- Up: Up was written by Ann Lee.\n- Ann Lee: Ann Lee was born in Rome.")
        assert "(none given" in rewriting_request(replace(question, sub_questions=())).messages[1].content

    def test_text_is_the_model_s_and_all_else_the_source_s(self, question):
        first, second = read_rewriting(question, reply(("Who wrote Up?", "ann lee."), GOOD[1]))
        assert first == replace(question.sub_questions[0], question="Who wrote Up?")
        assert (second.question, second.golden_passage_id) == ("Where was Ann Lee born?", "p-ann")

    def test_without_a_source_the_steps_are_the_model_s(self, question):
        steps = read_rewriting(replace(question, sub_questions=()), reply(*GOOD))
        assert steps == tuple(SubQuestion(text, answer) for text, answer in GOOD)

    @pytest.mark.parametrize(
        ("steps", "problem"),
        [
            (GOOD[:1], "there must be 2 sub_questions, not 1"),
            ((GOOD[0], ("Where was #1 born?", "Rome")), "sub_question 2 has a placeholder"),
            ((("Up >> screenwriter", "Ann Lee"), GOOD[1]), "sub_question 1 has a placeholder"),
            ((GOOD[0], ("Where was Ann Lee born?", "Paris")), "answer of sub_question 2 must be 'Rome'"),
            ((("Did Ann Lee write Up?", "Ann Lee"), GOOD[1]), "sub_question 1 gives its own answer away"),
            (((" ", "Ann Lee"), GOOD[1]), "sub_question 1 or its answer is blank"),
        ],
    )
    def test_what_does_not_fit_is_said(self, question, steps, problem):
        with pytest.raises(ValueError, match=problem):
            read_rewriting(question, reply(*steps))

    @pytest.mark.parametrize("text", ['{"sub_questions": [', '{"steps": []}', "[]", '{"sub_questions": [], "more": 1}'])
    def test_another_form_is_refused(self, question, text):
        with pytest.raises(ValueError, match=r".+"):
            read_rewriting(question, text)

    def test_there_are_not_arbitrarily_many_steps(self, question):
        with pytest.raises(ValueError, match="1 to 6 sub_questions, not 7"):
            read_rewriting(replace(question, sub_questions=()), reply(*GOOD[:1] * 7))


class TestQueries:
    def test_the_request_names_sub_questions_and_count(self, question):
        request = queries_request(question.sub_questions, 4)
        assert "write 4 different queries" in request.messages[0].content
        assert '{"steps": [{"queries": ["…"]}]}' in request.messages[0].content
        assert request.messages[1].content.startswith("1. Up >> screenwriter\n   answer: Ann Lee\n2. ")

    def test_queries_are_tidied_and_cut_to_the_count(self, question):
        text = json.dumps({"steps": [{"queries": ["a  b\n", "A B", "", "c", "d", "e"]}, {"queries": ["f"]}]})
        assert read_queries(question.sub_questions, 3, text) == (("a b", "c", "d"), ("f",))

    @pytest.mark.parametrize(
        ("steps", "problem"), [([["a"]], "there must be 2 steps, not 1"), ([["a"], [" "]], "step 2 has no query")]
    )
    def test_what_does_not_fit_is_said(self, question, steps, problem):
        text = json.dumps({"steps": [{"queries": queries} for queries in steps]})
        with pytest.raises(ValueError, match=problem):
            read_queries(question.sub_questions, 3, text)


@pytest.mark.parametrize("form", [Rewriting, QueryList])
def test_schemas_are_as_strict_as_structured_output_asks(form):
    schema = form.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])


@pytest.mark.parametrize(
    ("text", "answer", "sources", "leaks"),
    [
        ("Ann Lee, born in Rome", "Rome", ["Where was Ann Lee born?"], True),
        ("birthplace of Ann Lee the Roman", "Rome", ["Where was Ann Lee born?"], False),
        ("is Up older than Heat", "Up", ["Which is older, Up or Heat?"], False),
        ("the University of Rome location", "university of Rome", ["where"], True),
        ("anything", "The", ["x"], False),
        ("anything", "", ["x"], False),
    ],
)
def test_gives_away(text, answer, sources, leaks):
    assert gives_away(text, answer, sources) is leaks
