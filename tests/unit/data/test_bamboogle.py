import pytest

from stepsearch.data.bamboogle import read_bamboogle
from stepsearch.errors import DataError


def test_genuine_sample(real_data):
    benchmark = read_bamboogle(real_data / "bamboogle_test.sample60.jsonl")
    assert len(benchmark.questions) == 60
    assert benchmark.passages == []
    first = benchmark.questions[0]
    assert (first.id, first.answers) == ("bamboogle_1", ("james madison",))
    assert first.question == "Who was president of the United States in the year that Citibank was founded?"
    by_id = {question.id: question for question in benchmark.questions}
    assert by_id["bamboogle_2"].answers == ("Titan IIIE",)
    assert by_id["bamboogle_3"].question == (
        "In what year was the company that was founded as Sound of Music added to the S&P 500?"
    )
    assert by_id["bamboogle_3"].answers == ("1999",)
    # It names neither documents nor hops.
    assert all(q.golden_passages == () and q.sub_questions == () and q.hops is None for q in benchmark.questions)


def test_published_csv(tmp_path):
    path = tmp_path / "bamboogle.csv"
    path.write_text('\ufeffQuestion,Answer\n"Who, if anyone?","A ""B"" C"\nWhen?,1999\n', encoding="utf-8")
    questions = read_bamboogle(path).questions
    assert [(q.id, q.question, q.answers) for q in questions] == [
        ("bamboogle_1", "Who, if anyone?", ('A "B" C',)),
        ("bamboogle_2", "When?", ("1999",)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("Question,Answer\n", "is empty"),
        ("Query,Answer\na,b\n", "record 1: key 'Question' is missing"),
        ("Question,Answer\na,b\nc\n", "record 2: key 'Answer' is missing"),
        ('Question,Answer\na,"b\n', "is not whole CSV .unexpected end of data after line 1"),
    ],
)
def test_bad_csv(content, message, tmp_path):
    path = tmp_path / "bamboogle.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_bamboogle(path)


def test_no_golden_answer(write_jsonl):
    with pytest.raises(DataError, match="line 1: key 'golden_answers' holds no answer"):
        read_bamboogle(write_jsonl({"id": "b", "question": "q", "golden_answers": [" "]}))
