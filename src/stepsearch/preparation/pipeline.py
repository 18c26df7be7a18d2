"""Raw MuSiQue files to what training reads: processed questions, and a searchable knowledge base."""

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from stepsearch.data.benchmark import parse_entries
from stepsearch.data.knowledge_base import KnowledgeBaseWriter, replace_knowledge_base
from stepsearch.data.musique import DEV_FILE, TEST_FILE, TRAIN_FILE, musique_entry
from stepsearch.data.processed import write_processed
from stepsearch.data.readers import PUBLICATIONS
from stepsearch.data.records import read_records
from stepsearch.errors import DataError
from stepsearch.types import Question

PROCESSED_TRAIN, PROCESSED_DEV, PROCESSED_TEST = "train_processed.json", "dev_processed.json", "test_processed.json"
KNOWLEDGE_BASE = "knowledge_base"


@dataclass(frozen=True, slots=True)
class PreparationReport:
    """What `prepare` made.

    Attributes:
        train_questions: written to `train_path`.
        dev_questions: written to `dev_path`.
        test_questions: written to `test_path`; None without a test file that has answers.
        skipped: unanswerable records of all files.
        passages: in the knowledge base; None without one.
        seconds: wall time.
        train_path: the processed train questions.
        dev_path: the processed dev questions.
        test_path: the processed test questions; None without them.
        knowledge_base: its folder; None without one.
    """

    train_questions: int
    dev_questions: int
    test_questions: int | None
    skipped: int
    passages: int | None
    seconds: float
    train_path: Path
    dev_path: Path
    test_path: Path | None
    knowledge_base: Path | None


def prepare(
    raw_dir: Path,
    output_dir: Path,
    max_train_samples: int | None = None,
    build_knowledge_base: bool = False,
    report: Callable[[str], None] = print,
) -> PreparationReport:
    """Turn MuSiQue's published train and dev files into processed questions and, if asked for, a knowledge base.

    A test file is prepared as well where it has answers, as a generated world's has; the published one has none.
    Everything is written aside and moved into `output_dir` at the end: a failure leaves what was there before, and
    another run replaces it. Raw files are read line by line.

    Args:
        raw_dir: holds `musique_ans_v1.0_train.jsonl`, `musique_ans_v1.0_dev.jsonl`, maybe `…_test.jsonl`.
        output_dir: gets `train_processed.json`, `dev_processed.json`, maybe `test_processed.json`, and
            `knowledge_base/`.
        max_train_samples: keep the first so many train questions. The knowledge base still has the paragraphs of all
            questions of all files.
        build_knowledge_base: write all paragraphs, each once, with a BM25 index.
        report: is told what was done, line by line.

    Raises:
        DataError: a raw file is missing, malformed or empty, or the output cannot be written.
    """
    started = time.perf_counter()
    raw_dir, output_dir = Path(raw_dir), Path(output_dir)
    if max_train_samples is not None and max_train_samples < 1:
        raise DataError(f"max_train_samples is {max_train_samples}: it must be at least 1")
    _require_raw_files(raw_dir)
    try:
        with _stage(output_dir) as stage:
            splits, passages = _write(raw_dir, stage, max_train_samples, build_knowledge_base, report)
            _publish(stage, output_dir)
    except OSError as error:
        raise DataError(f"{error.filename or output_dir} cannot be written: {error.strerror}") from None
    test = splits.get(PROCESSED_TEST)
    return PreparationReport(
        train_questions=splits[PROCESSED_TRAIN].kept,
        dev_questions=splits[PROCESSED_DEV].kept,
        test_questions=test and test.kept,
        skipped=sum(split.skipped for split in splits.values()),
        passages=passages,
        seconds=time.perf_counter() - started,
        train_path=output_dir / PROCESSED_TRAIN,
        dev_path=output_dir / PROCESSED_DEV,
        test_path=test and output_dir / PROCESSED_TEST,
        knowledge_base=output_dir / KNOWLEDGE_BASE if build_knowledge_base else None,
    )


@dataclass(slots=True)
class _Split:
    """One raw file on its way: its paragraphs go to the corpus, its first `limit` questions on."""

    path: Path
    corpus: KnowledgeBaseWriter | None
    limit: int | None = None
    kept: int = 0
    skipped: int = 0

    def questions(self) -> Iterator[Question]:
        for entry in parse_entries(read_records(self.path), musique_entry):
            if entry is None:
                self.skipped += 1
                continue
            if self.corpus is not None:
                self.corpus.add_all(entry.passages)
            if self.limit is None or self.kept < self.limit:
                self.kept += 1
                yield entry.question
        if not self.kept:
            raise DataError(f"{self.path} holds no answerable question: all {self.skipped} are marked unanswerable")

    def __str__(self) -> str:
        left_out = f" ({self.skipped:,} unanswerable ones left out)" if self.skipped else ""
        return f"{self.kept:,} questions from {self.path.name}{left_out}"


def _require_raw_files(raw_dir: Path) -> None:
    missing = [name for name in (TRAIN_FILE, DEV_FILE) if not (raw_dir / name).is_file()]
    if missing:
        musique = PUBLICATIONS["musique"]
        others = ", ".join(f"{p.title} {p.address}" for p in PUBLICATIONS.values() if p is not musique)
        raise DataError(
            f"{' and '.join(missing)} not found in {raw_dir}: {musique.title} is published at {musique.address} "
            f"(the other evaluation benchmarks: {others})"
        )


@contextmanager
def _stage(output_dir: Path) -> Generator[Path]:
    """Give an empty folder inside `output_dir`, on the same file system, and delete it in the end."""
    stage = output_dir / ".prepare.tmp"
    # One that a killed run left behind.
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _write(
    raw_dir: Path, stage: Path, max_train_samples: int | None, with_corpus: bool, report: Callable[[str], None]
) -> tuple[dict[str, _Split], int | None]:
    """Write everything into the stage; returns the splits by the names of their files, and the number of passages."""
    with KnowledgeBaseWriter(stage / KNOWLEDGE_BASE) if with_corpus else nullcontext() as corpus:
        splits = {
            PROCESSED_TRAIN: _Split(raw_dir / TRAIN_FILE, corpus, max_train_samples),
            PROCESSED_DEV: _Split(raw_dir / DEV_FILE, corpus),
        }
        if _has_answers(raw_dir / TEST_FILE):
            splits[PROCESSED_TEST] = _Split(raw_dir / TEST_FILE, corpus)
        for name, split in splits.items():
            write_processed(stage / name, split.questions())
            report(f"{name}: {split}")
    if corpus is None:
        return splits, None
    report(f"{KNOWLEDGE_BASE}: {len(corpus):,} passages, building the BM25 index")
    # Imported here: an index library is not needed to prepare questions alone.
    from stepsearch.search.bm25_search import BM25SearchEngine

    BM25SearchEngine.build(stage / KNOWLEDGE_BASE)
    return splits, len(corpus)


def _has_answers(path: Path) -> bool:
    """Return whether there is such a file, with an answer in its first record: the published one has none."""
    if not path.is_file():
        return False
    with closing(read_records(path)) as records:
        return "answer" in next(records).values


def _publish(stage: Path, output_dir: Path) -> None:
    if (stage / KNOWLEDGE_BASE).exists():
        replace_knowledge_base(stage / KNOWLEDGE_BASE, output_dir / KNOWLEDGE_BASE)
    # What an earlier preparation left would not fit the new knowledge base.
    (output_dir / PROCESSED_TEST).unlink(missing_ok=True)
    for name in (PROCESSED_TEST, PROCESSED_DEV, PROCESSED_TRAIN):
        if (stage / name).exists():
            os.replace(stage / name, output_dir / name)
