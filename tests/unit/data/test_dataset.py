import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stepsearch.data import StepSearchDataset
from stepsearch.errors import DataError
from stepsearch.protocol import render_prompt
from stepsearch.types import Question

ITEM = {
    "question": "Where was the writer of Up born?",
    "answer": "Rome",
    "subquestions": [
        {"sub_question": "Who wrote Up?", "search_queries": ["Up writer"]},
        {"sub_question": "Where was Ann Lee born?", "search_queries": ["Ann Lee birthplace", "Ann Lee born"]},
    ],
}


class WordEncoder:
    """One token per word of the prompt."""

    def encode_prompt(self, question: str) -> list[int]:
        return [0] * len(render_prompt("question", question).split())


def test_promised_item():
    dataset = StepSearchDataset([ITEM], WordEncoder())
    [question] = dataset
    assert (question.id, question.answers) == ("item 0", ("Rome",))
    assert [sub.search_queries for sub in question.sub_questions] == [
        ("Up writer",),
        ("Ann Lee birthplace", "Ann Lee born"),
    ]
    assert len(dataset) == 1
    assert dataset[-1:] == [question]


def test_file_and_questions(musique_record, write_jsonl):
    from_file = StepSearchDataset(str(write_jsonl(musique_record)))
    assert [question.id for question in from_file] == ["2hop__1_2"]
    assert StepSearchDataset(list(from_file))[0] is from_file[0]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"answer": "a"}, "custom_data, item 1: key 'question' is missing"),
        ({"question": "q"}, "custom_data, item 1: key 'answer' is missing"),
        (
            ITEM | {"subquestions": [{"search_queries": []}]},
            r"item 1, subquestions\[0\]: key 'sub_question' is missing",
        ),
        (
            ITEM | {"subquestions": [{"sub_question": "s"}]},
            r"item 1, subquestions\[0\]: key 'search_queries' is missing",
        ),
        ("text", "custom_data, item 1 must be a JSON object, not a text"),
    ],
)
def test_bad_item_names_index_and_key(item, message):
    with pytest.raises(DataError, match=message):
        StepSearchDataset([ITEM, item])


def test_repeated_id_and_no_item():
    with pytest.raises(DataError, match="item 1: id a is that of item 0"):
        StepSearchDataset([ITEM | {"id": "a"}, ITEM | {"id": "a"}])
    with pytest.raises(DataError, match="the dataset is empty"):
        StepSearchDataset([])


def test_prompts_that_fit_and_one_that_does_not():
    questions = [Question("short", "a b", ("x",)), Question("long", "a b c d", ("x",))]
    dataset = StepSearchDataset(questions, WordEncoder())
    # "Question:" and four words.
    dataset.check_fits(5)
    with pytest.raises(
        DataError, match=r"question long: its prompt has 5 tokens and 4 fit \(1 of 2 .*model\.max_length"
    ):
        dataset.check_fits(4)


def test_transformers_tokenizer():
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    dataset = StepSearchDataset([ITEM], PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]"))
    length = len(render_prompt("instructions", ITEM["question"]).split())
    dataset.check_fits(length)
    with pytest.raises(DataError, match=f"its prompt has {length} tokens"):
        dataset.check_fits(length - 1)


def test_nothing_to_measure_with():
    with pytest.raises(DataError, match="give StepSearchDataset a tokenizer"):
        StepSearchDataset([ITEM]).check_fits(10)
