"""Raw MuSiQue files to what training reads: processed questions, and a searchable knowledge base."""

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from stepsearch.data.benchmark import parse_entries
from stepsearch.data.knowledge_base import KnowledgeBaseWriter, replace_knowledge_base
from stepsearch.data.musique import musique_entry
from stepsearch.data.processed import write_processed
from stepsearch.data.readers import PUBLICATIONS
from stepsearch.data.records import read_records
from stepsearch.errors import DataError
from stepsearch.types import Question

TRAIN_FILE, DEV_FILE = "musique_ans_v1.0_train.jsonl", "musique_ans_v1.0_dev.jsonl"
PROCESSED_TRAIN, PROCESSED_DEV, KNOWLEDGE_BASE = "train_processed.json", "dev_processed.json", "knowledge_base"


@dataclass(frozen=True, slots=True)
class PreparationReport:
    """What `prepare` made.

    Attributes:
        train_questions: written to `train_path`.
        dev_questions: written to `dev_path`.
        skipped: unanswerable records of both files.
        passages: in the knowledge base; None without one.
        seconds: wall time.
        train_path: the processed train questions.
        dev_path: the processed dev questions.
        knowledge_base: its folder; None without one.
    """

    train_questions: int
    dev_questions: int
    skipped: int
    passages: int | None
    seconds: float
    train_path: Path
    dev_path: Path
    knowledge_base: Path | None


def prepare(
    raw_dir: Path,
    output_dir: Path,
    max_train_samples: int | None = None,
    build_knowledge_base: bool = False,
    report: Callable[[str], None] = print,
) -> PreparationReport:
    """Turn MuSiQue's published train and dev files into processed questions and, if asked for, a knowledge base.

    Everything is written aside and moved into `output_dir` at the end: a failure leaves what was there before, and
    another run replaces it. Raw files are read line by line.

    Args:
        raw_dir: holds `musique_ans_v1.0_train.jsonl` and `musique_ans_v1.0_dev.jsonl`.
        output_dir: gets `train_processed.json`, `dev_processed.json` and `knowledge_base/`.
        max_train_samples: keep the first so many train questions. The knowledge base still has the paragraphs of all
            questions of both files.
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
            train, dev, passages = _write(raw_dir, stage, max_train_samples, build_knowledge_base, report)
            _publish(stage, output_dir)
    except OSError as error:
        raise DataError(f"{error.filename or output_dir} cannot be written: {error.strerror}") from None
    return PreparationReport(
        train_questions=train.kept,
        dev_questions=dev.kept,
        skipped=train.skipped + dev.skipped,
        passages=passages,
        seconds=time.perf_counter() - started,
        train_path=output_dir / PROCESSED_TRAIN,
        dev_path=output_dir / PROCESSED_DEV,
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
) -> tuple[_Split, _Split, int | None]:
    """Write everything into the stage; returns both splits and the number of passages."""
    with KnowledgeBaseWriter(stage / KNOWLEDGE_BASE) if with_corpus else nullcontext() as corpus:
        train = _Split(raw_dir / TRAIN_FILE, corpus, max_train_samples)
        dev = _Split(raw_dir / DEV_FILE, corpus)
        for split, name in ((train, PROCESSED_TRAIN), (dev, PROCESSED_DEV)):
            write_processed(stage / name, split.questions())
            report(f"{name}: {split}")
    if corpus is None:
        return train, dev, None
    report(f"{KNOWLEDGE_BASE}: {len(corpus):,} passages, building the BM25 index")
    # Imported here: an index library is not needed to prepare questions alone.
    from stepsearch.search.bm25_search import BM25SearchEngine

    BM25SearchEngine.build(stage / KNOWLEDGE_BASE)
    return train, dev, len(corpus)


def _publish(stage: Path, output_dir: Path) -> None:
    if (stage / KNOWLEDGE_BASE).exists():
        replace_knowledge_base(stage / KNOWLEDGE_BASE, output_dir / KNOWLEDGE_BASE)
    for name in (PROCESSED_DEV, PROCESSED_TRAIN):
        os.replace(stage / name, output_dir / name)
