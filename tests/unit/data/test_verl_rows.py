import json

import pytest

from stepsearch.data.parquet import read_parquet, write_parquet
from stepsearch.data.question_files import read_questions
from stepsearch.data.readers import read_benchmark
from stepsearch.data.records import Record
from stepsearch.data.verl_rows import ROW_SHAPE, question_from_row, question_to_row
from stepsearch.errors import DataError
from stepsearch.types import Passage, Question, SubQuestion

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

UP = Passage.from_text("Up was written by Ann Lee.", "Up")
QUESTION = Question(
    id="w1",
    question="Who wrote Up?",
    answers=("Ann Lee", "A. Lee"),
    sub_questions=(SubQuestion("Up >> author", "Ann Lee", ("Up author", "author of Up"), UP.id, "Up", "author"),),
    golden_passages=(UP,),
    dataset="2wiki",
    hops=2,
    kind="compositional",
)


def export(path, questions):
    return write_parquet(path, (question_to_row(q, place, "dev") for place, q in enumerate(questions)), ROW_SHAPE)


def test_a_row_has_search_r1s_columns_and_the_released_codes_names():
    row = question_to_row(QUESTION, 5, "train")
    assert row["data_source"] == "2wikimultihopqa"
    assert row["agent_name"] == "stepsearch"
    assert row["ability"] == "fact-reasoning"
    assert row["golden_answers"] == ["Ann Lee", "A. Lee"]
    assert row["reward_model"] == {
        "style": "rule",
        "ground_truth": {"target": ["Ann Lee", "A. Lee"], "search_keys": [["Up author", "author of Up"]]},
    }
    extra = row["extra_info"]
    assert (extra["split"], extra["index"]) == ("train", 5)
    assert extra["support_docs"] == [{"id": UP.id, "title": "Up", "paragraph_text": "Up was written by Ann Lee."}]
    [message] = row["prompt"]
    assert message["role"] == "user"
    assert message["content"].endswith("Question: Who wrote Up?\n")


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("musique", "musique_ans_v1.0_dev.sample100.jsonl"),
        ("hotpotqa", "hotpot_dev_distractor_v1.sample100.json"),
        ("2wiki", "2wikimultihop_dev.sample.json"),
        ("bamboogle", "bamboogle_test.sample60.jsonl"),
    ],
)
def test_genuine_questions_survive(dataset, name, real_data, tmp_path):
    questions = read_benchmark(real_data / name, dataset).questions
    assert export(tmp_path / "q.parquet", questions) == len(questions)
    assert read_questions(tmp_path / "q.parquet") == questions


def test_another_reader_sees_plain_values(tmp_path):
    export(tmp_path / "q.parquet", [QUESTION])
    [row] = parquet.read_table(tmp_path / "q.parquet").to_pylist()
    assert row["reward_model"]["ground_truth"]["target"] == ["Ann Lee", "A. Lee"]
    assert row["extra_info"]["subquestions"][0]["golden_id"] == UP.id


def test_search_r1s_own_rows_merged_from_two_benchmarks(tmp_path):
    rows = [
        {
            "id": "train_0",
            "question": f"Who is {source}?",
            "golden_answers": ["Ann"],
            "data_source": source,
            "prompt": [{"role": "user", "content": f"Answer the given question. Question: Who is {source}?\n"}],
            "ability": "fact-reasoning",
            "reward_model": {"style": "rule", "ground_truth": {"target": ["Ann"]}},
            "extra_info": {"split": "train", "index": 0},
        }
        for source in ("nq", "2wikimultihopqa")
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "train.parquet")
    first, second = read_questions(tmp_path / "train.parquet")
    assert first == Question("nq/train_0", "Who is nq?", ("Ann",), dataset="nq")
    assert second == Question("2wikimultihopqa/train_0", "Who is 2wikimultihopqa?", ("Ann",), dataset="2wiki")


@pytest.mark.parametrize("where", ["extra_info", "prompt"])
def test_verls_form_of_search_r1s_rows(where):
    row = {
        "data_source": "searchR1_hotpotqa",
        "prompt": [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "…Question: Who?\n"}],
        "reward_model": {"ground_truth": {"target": "Ann"}, "style": "rule"},
        "extra_info": {"index": 3, "split": "test"} | ({"question": "Who?"} if where == "extra_info" else {}),
        "metadata": None,
    }
    assert question_from_row(Record(row, "f, row 4")) == Question(
        "hotpotqa/test_3", "Who?", ("Ann",), dataset="hotpotqa"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward_model": {"ground_truth": {"target": []}}}, "target holds no answer"),
        ({"reward_model": {"ground_truth": {"target": [3]}}}, "key 'target' must hold a list of texts"),
        ({"reward_model": "x"}, "reward_model must be a JSON object, not a text"),
        ({"prompt": None, "question": None, "extra_info": None}, "key 'prompt' must hold a list, not null"),
        ({"prompt": [], "question": None, "extra_info": None}, "key 'question' is blank"),
    ],
)
def test_malformed_rows_are_named(change, message, tmp_path):
    row = {
        "question": "Who?",
        "reward_model": {"ground_truth": {"target": ["Ann"]}},
        "extra_info": {"split": "train", "index": 1},
    }
    with pytest.raises(DataError, match=f"f, row 1.*{message}"):
        question_from_row(Record(row | change, "f, row 1"))


def test_search_keys_that_do_not_fit():
    row = json.loads(json.dumps(question_to_row(QUESTION, 0, "dev")))
    row["reward_model"]["ground_truth"]["search_keys"] = []
    with pytest.raises(DataError, match="search_keys has 0 entries for 1 sub-questions"):
        question_from_row(Record(row, "f, row 1"))


def test_damaged_and_empty_files(tmp_path):
    path = tmp_path / "q.parquet"
    export(path, [QUESTION])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"q\.parquet is no whole parquet file"):
        read_questions(path)
    export(path, [])
    with pytest.raises(DataError, match=r"q\.parquet is empty: it holds no row"):
        read_questions(path)
    with pytest.raises(DataError, match="does not exist"):
        list(read_parquet(tmp_path / "absent.parquet"))


def test_repeated_id_is_named(tmp_path):
    export(tmp_path / "q.parquet", [QUESTION, QUESTION])
    with pytest.raises(DataError, match=r"q\.parquet, row 2: question id w1 occurs a second time"):
        read_questions(tmp_path / "q.parquet")


def test_failure_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "q.parquet"
    export(path, [QUESTION])
    before = path.read_bytes()

    def failing():
        yield question_to_row(QUESTION, 0, "dev")
        raise DataError("half-way")

    with pytest.raises(DataError, match="half-way"):
        write_parquet(path, failing(), ROW_SHAPE)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["q.parquet"]


def test_without_the_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"parquet needs pyarrow: pip install 'stepsearch\[data\]'"):
        list(read_parquet(tmp_path / "q.parquet"))
