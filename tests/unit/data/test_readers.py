import gzip
import json
import re

import pytest

from stepsearch.data.readers import READERS, find_benchmark_file, find_split_file, read_benchmark, read_entries
from stepsearch.errors import DataError


def test_every_promised_dataset_has_a_reader():
    assert set(READERS) == {"hotpotqa", "2wiki", "musique", "bamboogle"}


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("musique", "musique_ans_v1.0_dev.jsonl"),
        ("musique", "musique.json"),
        ("musique", "musique/dev.jsonl"),
        ("hotpotqa", "hotpot_dev_distractor_v1.json"),
        ("hotpotqa", "hotpot_dev_fullwiki_v1.json"),
        ("hotpotqa", "hotpotqa.jsonl"),
        ("hotpotqa", "hotpotqa/test.json"),
        ("2wiki", "2wikimultihop_dev.json"),
        ("2wiki", "2wiki.json"),
        ("2wiki", "2WikiMultihopQA/dev.json"),
        ("bamboogle", "bamboogle_test.jsonl"),
        ("bamboogle", "bamboogle.csv"),
        ("bamboogle", "bamboogle/test.jsonl"),
    ],
)
def test_files_are_found_under_their_names(dataset, name, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x", encoding="utf-8")
    assert find_benchmark_file(tmp_path, dataset) == tmp_path / name
    for other in READERS.keys() - {dataset}:
        with pytest.raises(DataError, match="it is published at https://"):
            find_benchmark_file(tmp_path, other)


def test_dev_json_in_a_folder_that_is_itself_the_benchmark(tmp_path):
    folder = tmp_path / "2wikimultihop"
    folder.mkdir()
    (folder / "dev.json").write_text("x", encoding="utf-8")
    assert find_benchmark_file(folder, "2wiki") == folder / "dev.json"


def test_published_name_goes_first(tmp_path):
    for name in ("musique.jsonl", "musique_ans_v1.0_dev.jsonl"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    assert find_benchmark_file(tmp_path, "musique").name == "musique_ans_v1.0_dev.jsonl"


def test_missing_file_is_named_with_everything_looked_for(tmp_path):
    with pytest.raises(DataError) as error:
        find_benchmark_file(tmp_path, "hotpotqa")
    for part in (
        "hotpot_dev_distractor_v1.json",
        "hotpot_dev_fullwiki_v1.json",
        "hotpotqa.jsonl",
        "hotpotqa/dev.json",
        "hotpotqa/test.jsonl",
        "https://hotpotqa.github.io",
        str(tmp_path),
    ):
        assert part in str(error.value)


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="which is no folder"):
        find_benchmark_file(tmp_path / "absent", "2wiki")


def test_unknown_dataset(tmp_path):
    with pytest.raises(DataError, match="unknown dataset squad: choose from hotpotqa, 2wiki, musique, bamboogle"):
        read_benchmark(tmp_path / "x", "squad")


@pytest.mark.parametrize("dataset", sorted(READERS))
def test_bare_questions_of_search_agent_projects(dataset, write_jsonl):
    path = write_jsonl({"id": "dev_0", "question": "Who?", "golden_answers": ["A", "B"], "metadata": {}})
    [question] = read_benchmark(path, dataset).questions
    assert (question.id, question.answers, question.dataset) == ("dev_0", ("A", "B"), dataset)


def whole(dataset, real_data):
    names = {
        "musique": "musique_ans_v1.0_dev.sample100.jsonl",
        "hotpotqa": "hotpot_dev_distractor_v1.sample100.json",
        "2wiki": "2wikimultihop_dev.sample.json",
        "bamboogle": "bamboogle_test.sample60.jsonl",
    }
    return (real_data / names[dataset]).read_bytes()


@pytest.mark.parametrize("dataset", sorted(READERS))
def test_file_cut_off_in_the_middle(dataset, real_data, tmp_path):
    path = tmp_path / "cut.json"
    content = whole(dataset, real_data)
    path.write_bytes(content[: len(content) // 2])
    where = r"cut\.json" if dataset in ("hotpotqa", "2wiki") else r"cut\.json, line \d+"
    with pytest.raises(DataError, match=rf"{where} is not (whole JSON|UTF-8)"):
        read_benchmark(path, dataset)


@pytest.mark.parametrize("dataset", sorted(READERS))
@pytest.mark.parametrize("content", [b"", b"\n\n", b"[]"])
def test_empty_file(content, dataset, tmp_path):
    path = tmp_path / "empty.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"empty\.json is empty"):
        read_benchmark(path, dataset)


@pytest.mark.parametrize("dataset", sorted(READERS))
@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_wrong_encoding(encoding, dataset, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"id": "é"}, ensure_ascii=False) + "\n", encoding=encoding)
    with pytest.raises(DataError, match="line 1 is not UTF-8 text"):
        read_benchmark(path, dataset)


def test_byte_order_mark_is_no_matter(musique_record, write_jsonl):
    path = write_jsonl(musique_record)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_benchmark(path, "musique").questions) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("3\n", "line 1 must be a JSON object, not a number"),
        ("[[1]]", "record 1 must be a JSON object, not a list"),
        ("[" * 100_000, "is no JSON that can be read"),
        ('{"id": "\\ud83d"}\n', "line 1 holds half of a surrogate pair"),
    ],
)
def test_other_json_than_objects(content, message, tmp_path):
    path = tmp_path / "odd.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(message)):
        read_benchmark(path, "musique")


def test_escaped_characters(musique_record, tmp_path):
    path = tmp_path / "escaped.jsonl"
    musique_record["answer"] = "\N{CAT FACE}"
    path.write_text(json.dumps(musique_record), encoding="utf-8")
    assert "\\ud83d" in path.read_text(encoding="utf-8")
    assert read_benchmark(path, "musique").questions[0].answers[0] == "\N{CAT FACE}"


def test_missing_file_and_folder_in_place_of_file(tmp_path):
    with pytest.raises(DataError, match=r"absent\.json does not exist"):
        read_benchmark(tmp_path / "absent.json", "musique")
    with pytest.raises(DataError, match="is a folder"):
        read_benchmark(tmp_path, "musique")


@pytest.mark.parametrize("dataset", sorted(READERS))
def test_packed_files_are_read_as_they_are(dataset, real_data, tmp_path):
    plain, packed = tmp_path / "plain.json", tmp_path / "packed.json.gz"
    plain.write_bytes(whole(dataset, real_data))
    packed.write_bytes(gzip.compress(whole(dataset, real_data)))
    assert read_benchmark(packed, dataset) == read_benchmark(plain, dataset)


def test_packed_csv(tmp_path):
    path = tmp_path / "bamboogle.csv.gz"
    path.write_bytes(gzip.compress(b"Question,Answer\nWho?,Ann\n"))
    assert read_benchmark(path, "bamboogle").questions[0].answers == ("Ann",)


def test_packed_file_cut_off(real_data, tmp_path):
    path = tmp_path / "cut.json.gz"
    packed = gzip.compress(whole("hotpotqa", real_data))
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"cut\.json\.gz is no whole gzip file"):
        read_benchmark(path, "hotpotqa")


@pytest.mark.parametrize(
    ("dataset", "split", "name"),
    [
        ("hotpotqa", "train", "hotpot_train_v1.1.json"),
        ("hotpotqa", "dev", "hotpot_dev_distractor_v1.json.gz"),
        ("2wiki", "train", "2WikiMultihopQA/train.json"),
        ("musique", "train", "musique_ans_v1.0_train.jsonl.gz"),
        ("bamboogle", "test", "bamboogle.csv"),
        ("2wiki", "test", "2wiki/test.jsonl"),
    ],
)
def test_files_of_splits(dataset, split, name, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x", encoding="utf-8")
    assert find_split_file(tmp_path, dataset, split) == tmp_path / name
    assert find_split_file(tmp_path, dataset, "other") is None


@pytest.mark.parametrize("dataset", sorted(READERS))
def test_entries_one_by_one_are_the_benchmark(dataset, real_data, tmp_path):
    path = tmp_path / "b.json"
    path.write_bytes(whole(dataset, real_data))
    benchmark = read_benchmark(path, dataset)
    entries = list(read_entries(path, dataset))
    assert [entry.question for entry in entries] == benchmark.questions
    assert {p for entry in entries for p in entry.passages} == set(benchmark.passages)
