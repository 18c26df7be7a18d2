"""prepare-data, audit and export as a user calls them."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepsearch.cli.main import main
from stepsearch.data import KnowledgeBase, read_questions

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that has to work; return what it printed."""

    def run(*argv: object) -> str:
        assert main([str(part) for part in argv]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that has to be refused; return the one line it is refused with."""

    def refuse(*argv: object) -> str:
        assert main([str(part) for part in argv]) == 2
        [line] = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        return line

    return refuse


def group(report: dict[str, Any], dataset: str, hops: int | None = None) -> dict[str, Any]:
    [found] = [g for g in report["groups"] if (g["dataset"], g["hops"]) == (dataset, hops)]
    return found


def test_every_benchmark_is_prepared_and_audited(run: Run, benchmarks: Path, tmp_path: Path) -> None:
    for dataset, questions in (("hotpotqa", 100), ("2wiki", 83)):
        out = tmp_path / dataset
        printed = run(
            "prepare-data", "--raw-dir", benchmarks, "--dataset", dataset, "--output-dir", out, "--build-knowledge-base"
        )
        assert f"dev_processed.json: {questions} questions" in printed
        assert len(read_questions(out / "dev_processed.json")) == questions
        found = group(json.loads((out / "data_audit.json").read_text()), f"{dataset} dev")
        assert (found["questions"], found["share_all"], found["documents"]["missing"]) == (questions, 1.0, 0)
        # Reference queries find nearly everything, the question alone does not.
        assert found["recall"]["all_queries"]["10"] == 1.0
        assert found["recall"]["question"]["1"] < 0.5
    printed = run("prepare-data", "--raw-dir", benchmarks, "--dataset", "bamboogle", "--output-dir", tmp_path / "b")
    assert "none has golden documents" in printed


def test_a_corpus_goes_in_and_out(run: Run, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus.jsonl.gz"
    run("export", "--input", world / "data" / "knowledge_base", "--format", "corpus", "--output", out)
    passages = list(KnowledgeBase.open(world / "data" / "knowledge_base"))
    with gzip.open(out, "rt", encoding="utf-8") as lines:
        first = json.loads(next(lines))
    assert first == {"id": passages[0].id, "contents": f'"{passages[0].title}"\n{passages[0].text}'}
    run("prepare-data", "--corpus", out, "--output-dir", tmp_path / "again")
    assert list(KnowledgeBase.open(tmp_path / "again" / "knowledge_base")) == passages


def test_no_command_writes_over_what_it_reads(refuse: Run, world: Path, tmp_path: Path) -> None:
    questions = Path(shutil.copy(world / "data" / "dev_processed.json", tmp_path / "mine.json"))
    before, same = questions.read_bytes(), tmp_path / "." / "mine.json"
    knowledge_base = world / "data" / "knowledge_base"
    for command in (
        ("export", "--input", questions, "--format", "processed"),
        ("export", "--input", world / "data" / "train_processed.json", questions, "--format", "jsonl"),
        ("audit", "--data", questions, "--knowledge-base", knowledge_base),
        ("audit", "--data", world / "data" / "train_processed.json", "--train", questions),
    ):
        assert refuse(*command, "--output", same) == f"error: the output {same} is one of the inputs: name another file"
    assert questions.read_bytes() == before


def test_an_incomplete_knowledge_base_is_found_out_and_completed(run: Run, world: Path, tmp_path: Path) -> None:
    dev = world / "data" / "dev_processed.json"
    golden = {passage.id for question in read_questions(dev) for passage in question.golden_passages}
    whole = list(KnowledgeBase.open(world / "data" / "knowledge_base"))
    lost = {passage.id for passage in whole if passage.id in golden and passage.id < "8"}
    assert 0 < len(lost) < len(golden)
    folder = tmp_path / "kb"
    KnowledgeBase.create(folder, [passage for passage in whole if passage.id not in lost])
    from stepsearch.search.bm25_search import BM25SearchEngine

    BM25SearchEngine.build(folder).close()
    report_file = tmp_path / "new" / "report.json"
    audit = ("audit", "--data", dev, "--knowledge-base", folder, "--output", report_file)
    printed = run(*audit)
    assert "Golden documents in the corpus" in printed
    report = json.loads(report_file.read_text())
    # Generated passages of one kind are alike, so that some lost ones may have a near-duplicate.
    missing = {document["id"] for document in report["missing_documents"]}
    assert missing
    assert missing <= lost
    printed = run(*audit, "--complete")
    assert f"{len(missing)} golden documents added" in printed
    report = json.loads(report_file.read_text())
    assert (report["added"], report["missing_documents"]) == (len(missing), [])
    assert len(report["before"]["missing_documents"]) == len(missing)
    assert len(KnowledgeBase.open(folder)) == len(whole) - len(lost) + len(missing)
    assert "lacks nothing" in run(*audit, "--complete")


def test_a_training_set_with_evaluation_questions_in_it(run: Run, world: Path, tmp_path: Path) -> None:
    dev, train = world / "data" / "dev_processed.json", world / "data" / "train_processed.json"
    mixed = tmp_path / "mixed.jsonl"
    run("export", "--input", dev, "--format", "jsonl", "--output", mixed)
    mixed.write_text("".join(mixed.read_text(encoding="utf-8").splitlines(keepends=True)[:3]), encoding="utf-8")
    printed = run("audit", "--data", dev, "--train", train, mixed, "--output", tmp_path / "report.json")
    assert "contamination: 3 of 12 evaluation questions stand among the 43 training questions" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["contamination"]["shared_questions"]) == 3


def test_questions_survive_every_format(run: Run, world: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    dev = world / "data" / "dev_processed.json"
    questions = read_questions(dev)
    for form, name in (("verl", "dev.parquet"), ("jsonl", "dev.jsonl.gz"), ("processed", "dev.json")):
        printed = run("export", "--input", dev, "--format", form, "--output", tmp_path / name, "--split", "dev")
        assert printed == f"12 questions written to {tmp_path / name}\n"
        assert read_questions(tmp_path / name) == questions


def test_several_inputs_become_one(run: Run, refuse: Run, world: Path, tmp_path: Path) -> None:
    dev, test = world / "data" / "dev_processed.json", world / "data" / "test_processed.json"
    run("export", "--input", dev, test, "--format", "processed", "--output", tmp_path / "both.json")
    assert read_questions(tmp_path / "both.json") == [*read_questions(dev), *read_questions(test)]
    twice = refuse("export", "--input", dev, tmp_path / "both.json", "--format", "jsonl", "--output", tmp_path / "x")
    assert "both.json: question id" in twice
    folder = world / "data" / "knowledge_base"
    run("export", "--input", folder, folder, "--format", "corpus", "--output", tmp_path / "pool.jsonl")
    run("prepare-data", "--corpus", tmp_path / "pool.jsonl", "--output-dir", tmp_path / "pool")
    assert list(KnowledgeBase.open(tmp_path / "pool" / "knowledge_base")) == list(KnowledgeBase.open(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both.json", "pool", "pool.jsonl"]


def test_mistakes(refuse: Run, world: Path, tmp_path: Path) -> None:
    dev = shutil.copy(world / "data" / "dev_processed.json", tmp_path / "dev.json")
    out = tmp_path / "out"
    assert "nothing to prepare" in refuse("prepare-data", "--output-dir", out)
    assert "go together" in refuse("prepare-data", "--raw-dir", tmp_path, "--output-dir", out)
    assert "go together" in refuse("prepare-data", "--dataset", "2wiki", "--output-dir", out)
    both = ("--raw-musique-dir", tmp_path, "--dataset", "2wiki")
    assert "go together" in refuse("prepare-data", *both, "--output-dir", out)
    absent = tmp_path / "absent.jsonl"
    assert "absent.jsonl does not exist" in refuse("prepare-data", "--corpus", absent, "--output-dir", out)
    assert not out.exists()
    assert "there is no knowledge_base/ beside" in refuse("audit", "--data", dev)
    assert "--complete needs" in refuse("audit", "--data", dev, "--train", dev, "--complete")
    assert "does not exist" in refuse("audit", "--data", absent, "--train", dev)
    assert "names end in .parquet" in refuse("export", "--input", dev, "--format", "verl", "--output", tmp_path / "x")
    assert "is no knowledge base" in refuse(
        "export", "--input", tmp_path, "--format", "corpus", "--output", tmp_path / "c.jsonl"
    )
    unwritable = Path(dev) / "in_a_file.jsonl"
    assert "cannot be written" in refuse("export", "--input", dev, "--format", "jsonl", "--output", unwritable)
    assert "cannot be written" in refuse("audit", "--data", dev, "--train", dev, "--output", unwritable)
    assert "is a folder" in refuse("audit", "--data", dev, "--train", dev, "--output", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["dev.json"]


def test_a_knowledge_base_without_an_index_says_what_to_do(refuse: Run, run: Run, world: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    run("export", "--input", world / "data" / "knowledge_base", "--format", "corpus", "--output", corpus)
    run("prepare-data", "--corpus", corpus, "--output-dir", tmp_path / "out", "--without-index")
    line = refuse(
        "audit", "--data", world / "data" / "dev_processed.json", "--knowledge-base", tmp_path / "out/knowledge_base"
    )
    assert "is missing: make it anew" in line
