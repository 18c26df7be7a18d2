import json

import pytest

from stepsearch.data.hub_datasets import DatasetName, read_hub_dataset
from stepsearch.data.processed import question_to_item
from stepsearch.data.readers import read_benchmark
from stepsearch.errors import DataError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    # As HF_HUB_OFFLINE=1 does: no test asks a hub.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def questions_of(entries):
    return [entry.question for entry in entries]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("owner/name", DatasetName("owner/name")),
        ("owner/name:dev", DatasetName("owner/name", None, "dev")),
        ("owner/name@full:dev", DatasetName("owner/name", "full", "dev")),
    ],
)
def test_names(text, name):
    assert DatasetName.parse(text) == name
    assert str(name) == text


def test_a_folder_whose_name_has_a_colon_is_a_folder(tmp_path):
    (tmp_path / "a:b").mkdir()
    assert DatasetName.parse(str(tmp_path / "a:b")).split is None


def test_a_file_is_refused_at_once(tmp_path):
    (tmp_path / "train.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="is a file: name its folder"):
        DatasetName.parse(str(tmp_path / "train.jsonl"))


def test_saved_splits(real_data, tmp_path):
    questions = read_benchmark(real_data / "2wikimultihop_dev.sample.json", "2wiki").questions
    items = [json.loads(json.dumps(question_to_item(question))) for question in questions]
    splits = {"train": datasets.Dataset.from_list(items[:50]), "validation": datasets.Dataset.from_list(items[50:])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    found = read_hub_dataset(DatasetName(str(tmp_path / "saved")))
    assert {split: questions_of(entries) for split, entries in found.items()} == {
        "train": questions[:50],
        "validation": questions[50:],
    }
    [split] = read_hub_dataset(DatasetName(str(tmp_path / "saved"), split="validation"))
    assert split == "validation"
    with pytest.raises(DataError, match="has no split dev: choose from train, validation"):
        read_hub_dataset(DatasetName(str(tmp_path / "saved"), split="dev"))


def test_the_hubs_columns_of_hotpotqa(real_data, tmp_path):
    path = real_data / "hotpot_dev_distractor_v1.sample100.json"
    rows = [
        {
            "id": record["_id"],
            "question": record["question"],
            "answer": record["answer"],
            "type": record["type"],
            "supporting_facts": {
                "title": [fact[0] for fact in record["supporting_facts"]],
                "sent_id": [fact[1] for fact in record["supporting_facts"]],
            },
            "context": {
                "title": [paragraph[0] for paragraph in record["context"]],
                "sentences": [paragraph[1] for paragraph in record["context"]],
            },
        }
        for record in json.loads(path.read_text(encoding="utf-8"))
    ]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "hotpot")
    [(split, entries)] = read_hub_dataset(DatasetName(str(tmp_path / "hotpot"), split="dev")).items()
    assert split == "dev"
    assert questions_of(entries) == read_benchmark(path, "hotpotqa").questions


def test_a_folder_of_files(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "test.jsonl").write_text('{"question": "Who?", "answer": "A"}\n', encoding="utf-8")
    [(split, entries)] = read_hub_dataset(DatasetName(str(folder))).items()
    assert (split, [question.question for question in questions_of(entries)]) == ("test", ["Who?"])


def test_malformed_rows_are_named(tmp_path):
    datasets.Dataset.from_list(
        [{"question": "Who?", "answer": "A"}, {"question": "Why?", "answer": None}]
    ).save_to_disk(tmp_path / "saved")
    [entries] = read_hub_dataset(DatasetName(str(tmp_path / "saved"))).values()
    with pytest.raises(DataError, match=r"saved:train, row 2: key 'answer' must hold a text, not null"):
        list(entries)


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(DataError, match=r"the dataset nobody/nothing:dev cannot be loaded \(.+\): name one of the hub"):
        read_hub_dataset(DatasetName("nobody/nothing", split="dev"))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DataError, match=r"--hf-dataset needs datasets: pip install 'stepsearch\[data\]'"):
        read_hub_dataset(DatasetName("x"))
