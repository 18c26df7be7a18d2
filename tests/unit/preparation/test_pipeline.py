import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stepsearch.data import KnowledgeBase, read_benchmark, read_questions
from stepsearch.data.corpus import write_corpus
from stepsearch.errors import DataError
from stepsearch.preparation import prepare
from stepsearch.preparation.pipeline import CorpusPlan, prepare_splits
from stepsearch.preparation.split_sources import hub_sources, raw_sources
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.passage_sources import PassageSources
from stepsearch.types import Passage

TRAIN, DEV, TEST = (f"musique_ans_v1.0_{split}.jsonl" for split in ("train", "dev", "test"))


def record(name, answerable=True):
    return {
        "id": f"2hop__{name}",
        "paragraphs": [
            {"idx": 0, "title": "Shared", "paragraph_text": "Every context has this.", "is_supporting": False},
            {"idx": 1, "title": name, "paragraph_text": f"{name} was written by Ann {name}.", "is_supporting": True},
            {"idx": 2, "title": f"Ann {name}", "paragraph_text": f"Ann {name} is ĕrudite.", "is_supporting": True},
        ],
        "question": f"What is the writer of {name}?",
        "question_decomposition": [
            {"id": 1, "question": f"{name} >> author", "answer": f"Ann {name}", "paragraph_support_idx": 1},
            {"id": 2, "question": "What is #1 ?", "answer": "ĕrudite", "paragraph_support_idx": 2},
        ],
        "answer": "ĕrudite",
        "answer_aliases": [],
        "answerable": answerable,
    }


def write(path, *records):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    write(folder / TRAIN, record("Alpha"), record("Beta", answerable=False), record("Gamma"), record("Delta"))
    write(folder / DEV, record("Epsilon"))
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_questions_and_counts(raw, tmp_path):
    lines = []
    result = prepare(raw, tmp_path / "out", max_train_samples=2, report=lines.append)
    assert (result.train_questions, result.dev_questions, result.skipped) == (2, 1, 1)
    assert (result.passages, result.knowledge_base) == (None, None)
    assert [q.id for q in read_questions(result.train_path)] == ["2hop__Alpha", "2hop__Gamma"]
    assert [q.id for q in read_questions(result.dev_path)] == ["2hop__Epsilon"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dev_processed.json", "train_processed.json"]
    assert lines[0] == f"train_processed.json: 2 questions from {TRAIN} (1 unanswerable ones left out)"
    assert result.seconds > 0


def test_knowledge_base_has_all_answerable_paragraphs_once_and_is_searchable(raw, tmp_path):
    result = prepare(raw, tmp_path / "out", max_train_samples=1, build_knowledge_base=True, report=lambda line: None)
    # Four answerable records with two paragraphs of their own and one shared.
    assert result.passages == 4 * 2 + 1
    titles = [passage.title for passage in KnowledgeBase.open(result.knowledge_base)]
    assert titles[:5] == ["Shared", "Alpha", "Ann Alpha", "Gamma", "Ann Gamma"]
    engine = BM25SearchEngine.open(result.knowledge_base)
    assert engine.search("who wrote Delta", 1)[0].title == "Delta"
    engine.close()


def test_a_test_file_with_answers_is_prepared_and_searched(raw, tmp_path):
    write(raw / TEST, record("Zeta"))
    result = prepare(raw, tmp_path / "out", build_knowledge_base=True, report=lambda line: None)
    assert result.test_questions == 1
    assert [q.id for q in read_questions(result.test_path)] == ["2hop__Zeta"]
    assert "Zeta" in [passage.title for passage in KnowledgeBase.open(result.knowledge_base)]


def test_the_published_test_file_without_answers_changes_nothing(raw, tmp_path):
    without = prepare(raw, tmp_path / "without", build_knowledge_base=True, report=lambda line: None)
    hidden = {key: value for key, value in record("Zeta").items() if key in ("id", "paragraphs", "question")}
    write(raw / TEST, hidden)
    result = prepare(raw, tmp_path / "out", build_knowledge_base=True, report=lambda line: None)
    assert (without.test_questions, result.test_questions, result.test_path) == (None, None, None)
    assert digests(tmp_path / "without") == digests(tmp_path / "out")


def test_test_questions_of_an_earlier_preparation_do_not_stay(raw, tmp_path):
    write(raw / TEST, record("Zeta"))
    prepare(raw, tmp_path / "out", report=lambda line: None)
    (raw / TEST).unlink()
    prepare(raw, tmp_path / "out", report=lambda line: None)
    assert not (tmp_path / "out" / "test_processed.json").exists()


def test_running_again_replaces(raw, tmp_path):
    prepare(raw, tmp_path / "out", build_knowledge_base=True, report=lambda line: None)
    first = digests(tmp_path / "out")
    prepare(raw, tmp_path / "out", build_knowledge_base=True, report=lambda line: None)
    assert digests(tmp_path / "out") == first
    write(raw / TRAIN, record("Zeta"))
    result = prepare(raw, tmp_path / "out", build_knowledge_base=True, report=lambda line: None)
    assert result.passages == 5
    assert [q.id for q in read_questions(result.train_path)] == ["2hop__Zeta"]


def test_failing_half_way_leaves_what_was_there(raw, tmp_path):
    prepare(raw, tmp_path / "out", build_knowledge_base=True, report=lambda line: None)
    before = digests(tmp_path / "out")
    dev = (raw / DEV).read_bytes()
    (raw / DEV).write_bytes(dev + dev[:100])
    write(raw / TRAIN, record("Zeta"))
    with pytest.raises(DataError, match=rf"{DEV}, line 2 is not whole JSON"):
        prepare(raw, tmp_path / "out", build_knowledge_base=True, report=lambda line: None)
    assert digests(tmp_path / "out") == before


def test_killed_half_way_leaves_what_was_there(raw, tmp_path):
    out = tmp_path / "out"
    prepare(raw, out, build_knowledge_base=True, report=lambda line: None)
    before = digests(out)
    write(raw / TRAIN, record("Zeta"))
    program = (
        "import sys, time; from pathlib import Path; from stepsearch.preparation import prepare\n"
        "def report(line): print(line, flush=True); time.sleep(60)\n"
        "prepare(Path(sys.argv[1]), Path(sys.argv[2]), build_knowledge_base=True, report=report)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(raw), str(out)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"train_processed.json: 1 questions")
        os.kill(process.pid, signal.SIGKILL)
    assert {name: digest for name, digest in digests(out).items() if ".prepare.tmp" not in name} == before
    prepare(raw, out, build_knowledge_base=True, report=lambda line: None)
    assert sorted(path.name for path in out.iterdir()) == [
        "dev_processed.json",
        "knowledge_base",
        "train_processed.json",
    ]


def test_a_dev_file_alone_will_do_where_nothing_is_trained(raw, tmp_path):
    (raw / "musique_ans_v1.0_train.jsonl").unlink()
    result = prepare_splits(raw_sources(raw, "musique"), tmp_path / "out", None, CorpusPlan(), lambda line: None)
    assert (result.train_questions, result.dev_path.name) == (None, "dev_processed.json")


def test_missing_files_say_where_the_benchmarks_are_published(raw, tmp_path):
    (raw / TRAIN).unlink()
    with pytest.raises(DataError) as error:
        prepare(raw, tmp_path / "out")
    for part in (
        TRAIN,
        str(raw),
        "https://github.com/StonyBrookNLP/musique",
        "https://hotpotqa.github.io",
        "https://github.com/Alab-NII/2wikimultihop",
        "https://github.com/ofirpress/self-ask",
    ):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_output_that_cannot_be_written(raw, tmp_path):
    (tmp_path / "out").write_text("a file", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        prepare(raw, tmp_path / "out")


def test_foreign_knowledge_base_folder_is_kept(raw, tmp_path):
    (tmp_path / "out" / "knowledge_base").mkdir(parents=True)
    (tmp_path / "out" / "knowledge_base" / "letter.txt").write_text("dear", encoding="utf-8")
    before = digests(tmp_path / "out")
    with pytest.raises(DataError, match="exists and is no knowledge base"):
        prepare(raw, tmp_path / "out", build_knowledge_base=True, report=lambda line: None)
    assert digests(tmp_path / "out") == before


def test_no_train_sample(raw, tmp_path):
    with pytest.raises(DataError, match="max_train_samples is 0: it must be at least 1"):
        prepare(raw, tmp_path / "out", max_train_samples=0)


SAMPLES = {
    "hotpotqa": ("hotpot_dev_distractor_v1.sample100.json", "hotpot_dev_distractor_v1.json", 986),
    "2wiki": ("2wikimultihop_dev.sample.json", "2wikimultihop_dev.json", 677),
}


@pytest.mark.parametrize("dataset", sorted(SAMPLES))
def test_the_other_benchmarks_are_prepared_with_whatever_split_is_there(dataset, real_data, tmp_path):
    sample, name, passages = SAMPLES[dataset]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / name).write_bytes((real_data / sample).read_bytes())
    result = prepare(tmp_path / "raw", tmp_path / "out", build_knowledge_base=True, report=str, dataset=dataset)
    expected = read_benchmark(real_data / sample, dataset).questions
    assert read_questions(result.dev_path) == expected
    assert (result.train_questions, result.dev_questions, result.passages) == (None, len(expected), passages)
    assert result.splits == {"dev": tmp_path / "out" / "dev_processed.json"}
    assert result.without_golden == 0
    assert all(question.golden_passages and question.sub_questions for question in read_questions(result.dev_path))


def test_bamboogle_says_that_it_has_no_golden_documents(real_data, tmp_path):
    (tmp_path / "bamboogle.jsonl").write_bytes((real_data / "bamboogle_test.sample60.jsonl").read_bytes())
    (tmp_path / "bamboogle").mkdir()
    (tmp_path / "bamboogle.jsonl").rename(tmp_path / "bamboogle" / "test.jsonl")
    lines = []
    result = prepare(tmp_path, tmp_path / "out", report=lines.append, dataset="bamboogle")
    assert (result.test_questions, result.without_golden) == (60, 60)
    assert lines == [
        "test_processed.json: 60 questions from test.jsonl; none has golden documents, and so no step rewards and no "
        "golden recall"
    ]
    with pytest.raises(DataError, match="come without paragraphs to make a knowledge base of: name a corpus with"):
        prepare(tmp_path, tmp_path / "out", build_knowledge_base=True, report=str, dataset="bamboogle")


def test_a_benchmark_without_any_file(tmp_path):
    with pytest.raises(DataError, match=r"hotpot_train_v1\.1\.json or hotpot_dev_distractor_v1\.json not found in"):
        prepare(tmp_path, tmp_path / "out", dataset="hotpotqa")
    with pytest.raises(DataError, match="unknown dataset squad"):
        prepare(tmp_path, tmp_path / "out", dataset="squad")


def test_a_corpus_alone(tmp_path):
    passages = [Passage(str(number), f"text {number}", f"title {number}") for number in range(3)]
    write_corpus(tmp_path / "corpus.jsonl.gz", passages)
    lines = []
    plan = CorpusPlan(source=PassageSources([tmp_path / "corpus.jsonl.gz"]))
    result = prepare_splits([], tmp_path / "out", None, plan, lines.append)
    assert (result.passages, result.splits) == (3, {})
    assert list(KnowledgeBase.open(result.knowledge_base)) == passages
    assert BM25SearchEngine.open(result.knowledge_base).search("title 2", 1)[0].id == "2"
    assert lines[0] == "knowledge_base: 3 passages from corpus.jsonl.gz"


def test_a_corpus_with_the_questions_paragraphs(raw, tmp_path):
    shared = Passage("17", "Every context has this.", "Shared")
    write_corpus(tmp_path / "corpus.jsonl", [shared, Passage("18", "Else.")])
    plan = CorpusPlan(contexts=True, source=PassageSources([tmp_path / "corpus.jsonl"]), index=False)
    lines = []
    result = prepare_splits(raw_sources(raw, "musique"), tmp_path / "out", None, plan, lines.append)
    # Of nine paragraphs one is in the corpus, and keeps the corpus's id.
    assert result.passages == 2 + 8
    assert next(iter(KnowledgeBase.open(result.knowledge_base))) == shared
    assert not (result.knowledge_base / "bm25").exists()
    assert lines[-2:] == [
        "knowledge_base: 8 of 8 golden documents are passages of it, and have their ids",
        "knowledge_base: 10 passages, without an index",
    ]


def test_golden_documents_take_the_ids_that_the_corpus_gives_them(raw, tmp_path):
    write_corpus(
        tmp_path / "corpus.jsonl", [Passage("17", "Ann Alpha  is ĕrudite.", "A. Alpha"), Passage("18", "Else.")]
    )
    lines = []
    plan = CorpusPlan(source=PassageSources([tmp_path / "corpus.jsonl"]))
    result = prepare_splits(raw_sources(raw, "musique"), tmp_path / "out", None, plan, lines.append)
    first = read_questions(result.train_path)[0]
    book, ann = first.golden_passages
    assert (ann.id, ann.text) == ("17", "Ann Alpha is ĕrudite.")
    assert [sub.golden_passage_id for sub in first.sub_questions] == [book.id, "17"]
    assert book == Passage.from_text("Alpha was written by Ann Alpha.", "Alpha")
    assert "knowledge_base: 1 of 8 golden documents are passages of it, and have their ids" in lines


def test_a_damaged_corpus_leaves_what_was_there(raw, tmp_path):
    prepare(raw, tmp_path / "out", build_knowledge_base=True, report=str)
    before = digests(tmp_path / "out")
    (tmp_path / "corpus.jsonl").write_text('{"id": "0", "contents": "x"}\n{"id": "1", "con', encoding="utf-8")
    with pytest.raises(DataError, match=r"corpus\.jsonl, line 2 is not whole JSON"):
        prepare_splits([], tmp_path / "out", None, CorpusPlan(source=PassageSources([tmp_path / "corpus.jsonl"])), str)
    assert digests(tmp_path / "out") == before


def test_a_loaded_dataset(raw, tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = {split: datasets.Dataset.from_list([record(split)]) for split in ("train", "validation", "test")}
    datasets.DatasetDict(rows).save_to_disk(tmp_path / "saved")
    sources = hub_sources(str(tmp_path / "saved"))
    assert [source.split for source in sources] == ["train", "dev", "test"]
    result = prepare_splits(sources, tmp_path / "out", None, CorpusPlan(contexts=True), str)
    assert (result.train_questions, result.dev_questions, result.test_questions) == (1, 1, 1)
    assert result.passages == 1 + 3 * 2
    assert [q.id for q in read_questions(result.dev_path)] == ["2hop__validation"]


def test_a_loaded_dataset_with_a_split_of_another_name(tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.DatasetDict({"extra": datasets.Dataset.from_list([record("A")])}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="has a split extra, which is none of train, dev, validation"):
        hub_sources(str(tmp_path / "saved"))
