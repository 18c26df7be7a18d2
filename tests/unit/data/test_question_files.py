import json

import pytest

from stepsearch.data.processed import write_processed_lines
from stepsearch.data.question_files import read_questions
from stepsearch.data.readers import read_benchmark
from stepsearch.errors import DataError
from stepsearch.types import Question

SAMPLES = {
    "musique": "musique_ans_v1.0_dev.sample100.jsonl",
    "hotpotqa": "hotpot_dev_distractor_v1.sample100.json",
    "2wiki": "2wikimultihop_dev.sample.json",
}


@pytest.mark.parametrize("dataset", sorted(SAMPLES))
def test_the_first_record_tells_the_benchmark(dataset, real_data):
    path = real_data / SAMPLES[dataset]
    assert read_questions(path) == read_benchmark(path, dataset).questions


def test_bare_questions_have_no_dataset_but_the_one_they_name(write_jsonl):
    record = {"id": "1", "question": "Who?", "golden_answers": ["A"]}
    assert read_questions(write_jsonl(record)) == [Question("1", "Who?", ("A",))]
    assert read_questions(write_jsonl(record | {"dataset": "nq"}))[0].dataset == "nq"


def test_csv_is_bamboogle(tmp_path):
    (tmp_path / "b.csv").write_text("Question,Answer\nWho?,Ann\n", encoding="utf-8")
    assert read_questions(tmp_path / "b.csv") == [Question("bamboogle_1", "Who?", ("Ann",), dataset="bamboogle")]


@pytest.mark.parametrize("dataset", sorted(SAMPLES))
@pytest.mark.parametrize("name", ["lines.jsonl", "lines.jsonl.gz"])
def test_processed_lines_survive(dataset, name, real_data, tmp_path):
    questions = read_benchmark(real_data / SAMPLES[dataset], dataset).questions
    assert write_processed_lines(tmp_path / name, questions) == len(questions)
    assert read_questions(tmp_path / name) == questions


def test_a_record_of_another_kind_is_named(write_jsonl, musique_record):
    path = write_jsonl(musique_record, {"question": "Who?", "answer": "A"})
    with pytest.raises(DataError, match=r"data\.jsonl, line 2: key '\w+' is missing"):
        read_questions(path)


def test_questions_about_nothing(write_jsonl):
    with pytest.raises(DataError, match="line 1: key 'question' is missing"):
        read_questions(write_jsonl({"answer": "x"}))


@pytest.mark.parametrize("passage", [{"id": "1", "contents": "x"}, {"id": "1", "title": "T", "text": "x"}])
def test_a_corpus_is_told_from_questions(passage, write_jsonl):
    with pytest.raises(DataError, match=r"line 1: this looks like a corpus, .*: name a file of questions"):
        read_questions(write_jsonl(passage))


def test_lines_load_with_datasets(real_data, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    questions = read_benchmark(real_data / SAMPLES["musique"], "musique").questions
    write_processed_lines(tmp_path / "lines.jsonl", questions)
    rows = datasets.Dataset.from_json(str(tmp_path / "lines.jsonl"), cache_dir=str(tmp_path / "cache"))
    assert json.loads(json.dumps(rows[0]))["subquestions"][0]["search_queries"] == list(
        questions[0].sub_questions[0].search_queries
    )
    assert len(rows) == 100
