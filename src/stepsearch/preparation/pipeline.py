"""Raw files to what training reads: processed questions, and a searchable knowledge base."""

import os
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from stepsearch.data.knowledge_base import KNOWLEDGE_BASE, KnowledgeBase, KnowledgeBaseWriter, replace_knowledge_base
from stepsearch.data.processed import write_processed
from stepsearch.data.question_files import read_questions
from stepsearch.errors import DataError
from stepsearch.preparation.coverage import Match, golden_documents, locate
from stepsearch.preparation.linking import link
from stepsearch.preparation.split_sources import DEV, FOR_TRAINING, TEST, TRAIN, SplitSource, raw_sources
from stepsearch.search.passage_sources import PassageSources
from stepsearch.types import Passage, Question

PROCESSED_TRAIN, PROCESSED_DEV, PROCESSED_TEST = "train_processed.json", "dev_processed.json", "test_processed.json"
PROCESSED = {TRAIN: PROCESSED_TRAIN, DEV: PROCESSED_DEV, TEST: PROCESSED_TEST}
_CORPUS_LINE_EVERY = 1_000_000


@dataclass(frozen=True, slots=True)
class PreparationReport:
    """What a preparation made.

    Attributes:
        train_questions: written to `train_path`; None without train questions.
        dev_questions: written to `dev_path`; None without them.
        test_questions: written to `test_path`; None without them.
        skipped: unanswerable records of all files.
        without_golden: questions written whose source names no golden documents, or not all of them.
        passages: in the knowledge base; None without one.
        seconds: wall time.
        train_path: the processed train questions.
        dev_path: the processed dev questions.
        test_path: the processed test questions.
        knowledge_base: its folder; None without one.
    """

    train_questions: int | None
    dev_questions: int | None
    test_questions: int | None
    skipped: int
    without_golden: int
    passages: int | None
    seconds: float
    train_path: Path | None
    dev_path: Path | None
    test_path: Path | None
    knowledge_base: Path | None

    @property
    def splits(self) -> dict[str, Path]:
        """Return the processed files that were written, by split."""
        paths = {TRAIN: self.train_path, DEV: self.dev_path, TEST: self.test_path}
        return {split: path for split, path in paths.items() if path is not None}


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """What the knowledge base is made of, and whether there is to be one.

    Attributes:
        contexts: it has all paragraphs of the questions' contexts.
        source: a corpus, whose passages come first and keep their ids.
        index: whether to make the BM25 index.
    """

    contexts: bool = False
    source: PassageSources | None = None
    index: bool = True


def prepare(
    raw_dir: Path,
    output_dir: Path,
    max_train_samples: int | None = None,
    build_knowledge_base: bool = False,
    report: Callable[[str], None] = print,
    dataset: str = "musique",
) -> PreparationReport:
    """Turn a benchmark's published files into processed questions and, if asked for, a knowledge base.

    As `prepare_splits`, of the splits whose files `raw_sources` finds in `raw_dir`.

    Args:
        raw_dir: holds the published files.
        output_dir: as in `prepare_splits`.
        max_train_samples: as in `prepare_splits`.
        build_knowledge_base: write all paragraphs, each once, with a BM25 index.
        report: is told what was done, line by line.
        dataset: key of `READERS`.

    Raises:
        DataError: a raw file is missing, malformed or empty, or the output cannot be written.
    """
    if max_train_samples is not None and max_train_samples < 1:
        raise DataError(f"max_train_samples is {max_train_samples}: it must be at least 1")
    sources = raw_sources(Path(raw_dir), dataset, FOR_TRAINING if dataset == "musique" else ())
    return prepare_splits(sources, output_dir, max_train_samples, CorpusPlan(contexts=build_knowledge_base), report)


def prepare_splits(
    sources: Sequence[SplitSource],
    output_dir: Path,
    max_train_samples: int | None,
    corpus: CorpusPlan,
    report: Callable[[str], None] = print,
) -> PreparationReport:
    """Turn splits into processed questions, and write a knowledge base if there is to be one.

    Everything is written aside and moved into `output_dir` at the end: a failure leaves what was there before, and
    another run replaces it. Records and passages are read one by one.

    Args:
        sources: none where only a knowledge base is wanted.
        output_dir: gets `<split>_processed.json` of each split, and `knowledge_base/`.
        max_train_samples: keep the first so many train questions. The knowledge base still has the paragraphs of all
            questions of all files.
        corpus: what the knowledge base is made of.
        report: is told what was done, line by line.

    Raises:
        DataError: a source is malformed or empty, or the output cannot be written.
    """
    started, output_dir = time.perf_counter(), Path(output_dir)
    try:
        with _stage(output_dir) as stage:
            splits, passages = _write(stage, sources, max_train_samples, corpus, report)
            _publish(stage, output_dir, splits)
    except OSError as error:
        raise DataError(f"{output_dir} cannot be written: {error.strerror or error}") from None
    counts = {name: split.kept for name, split in splits.items()}
    paths = {name: output_dir / PROCESSED[name] for name in splits}
    return PreparationReport(
        train_questions=counts.get(TRAIN),
        dev_questions=counts.get(DEV),
        test_questions=counts.get(TEST),
        skipped=sum(split.skipped for split in splits.values()),
        without_golden=sum(split.without_golden for split in splits.values()),
        passages=passages,
        seconds=time.perf_counter() - started,
        train_path=paths.get(TRAIN),
        dev_path=paths.get(DEV),
        test_path=paths.get(TEST),
        knowledge_base=None if passages is None else output_dir / KNOWLEDGE_BASE,
    )


@dataclass(slots=True)
class _Split:
    """One split on its way: its paragraphs go to the corpus, its first `limit` questions on."""

    source: SplitSource
    corpus: KnowledgeBaseWriter | None
    limit: int | None = None
    kept: int = 0
    skipped: int = 0
    without_golden: int = 0

    def questions(self) -> Iterator[Question]:
        for entry in self.source.read():
            if entry is None:
                self.skipped += 1
                continue
            if self.corpus is not None:
                self.corpus.add_all(entry.passages)
            if self.limit is None or self.kept < self.limit:
                self.kept += 1
                self.without_golden += not entry.question.golden_passages
                yield entry.question
        if not self.kept:
            raise DataError(
                f"{self.source.name} holds no answerable question: all {self.skipped} are marked unanswerable"
            )

    def __str__(self) -> str:
        left_out = f" ({self.skipped:,} unanswerable ones left out)" if self.skipped else ""
        return f"{self.kept:,} questions from {self.source.name}{left_out}{self._golden()}"

    def _golden(self) -> str:
        if not self.without_golden:
            return ""
        share = "none has" if self.without_golden == self.kept else f"{self.without_golden:,} have no"
        return f"; {share} golden documents, and so no step rewards and no golden recall"


def _write(
    stage: Path,
    sources: Sequence[SplitSource],
    max_train_samples: int | None,
    corpus: CorpusPlan,
    report: Callable[[str], None],
) -> tuple[dict[str, _Split], int | None]:
    """Write everything into the stage; returns the splits by name, and the number of passages."""
    folder = stage / KNOWLEDGE_BASE
    with KnowledgeBaseWriter(folder) if corpus.contexts or corpus.source else nullcontext() as writer:
        if writer is not None and corpus.source is not None:
            writer.add_all(_counted(corpus.source.read(), report))
            report(f"{KNOWLEDGE_BASE}: {_passages(writer)} from {corpus.source}")
        limits = {TRAIN: max_train_samples}
        contexts = writer if corpus.contexts else None
        splits = {source.split: _Split(source, contexts, limits.get(source.split)) for source in sources}
        for name, split in splits.items():
            write_processed(stage / PROCESSED[name], split.questions())
            report(f"{PROCESSED[name]}: {split}")
        if writer is not None and not len(writer):
            raise DataError(
                "these questions come without paragraphs to make a knowledge base of: name a corpus with --corpus "
                "FILE, or leave --build-knowledge-base out"
            )
    if writer is None:
        return splits, None
    if corpus.source is not None and splits:
        _link([stage / PROCESSED[name] for name in splits], KnowledgeBase.open(folder), report)
    _index(folder, len(writer), corpus.index, report)
    return splits, len(writer)


def _link(files: Sequence[Path], knowledge_base: KnowledgeBase, report: Callable[[str], None]) -> None:
    """Give the golden documents that are passages of the corpus the ids that they have there."""
    questions = {path: read_questions(path) for path in files}
    documents = golden_documents(question for listed in questions.values() for question in listed)
    locations = locate(documents, knowledge_base, engine=None)
    for path, listed in questions.items():
        write_processed(path, (link(question, locations) for question in listed))
    found = sum(located.match is not Match.MISSING for located in locations.values())
    report(f"{KNOWLEDGE_BASE}: {found:,} of {len(documents):,} golden documents are passages of it, and have their ids")


def _passages(writer: KnowledgeBaseWriter) -> str:
    repeated = f" ({writer.repeated:,} left out whose content was there already)" if writer.repeated else ""
    return f"{len(writer):,} passages{repeated}"


def _counted(passages: Iterable[Passage], report: Callable[[str], None]) -> Iterator[Passage]:
    for number, passage in enumerate(passages, start=1):
        yield passage
        if number % _CORPUS_LINE_EVERY == 0:
            report(f"{KNOWLEDGE_BASE}: {number:,} passages read")


def _index(folder: Path, passages: int, wanted: bool, report: Callable[[str], None]) -> None:
    if not wanted:
        report(f"{KNOWLEDGE_BASE}: {passages:,} passages, without an index")
        return
    report(f"{KNOWLEDGE_BASE}: {passages:,} passages, building the BM25 index")
    # Imported here: an index library is not needed to prepare questions alone.
    from stepsearch.search.bm25_search import BM25SearchEngine

    BM25SearchEngine.build(folder)


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


def _publish(stage: Path, output_dir: Path, splits: Iterable[str]) -> None:
    if (stage / KNOWLEDGE_BASE).exists():
        replace_knowledge_base(stage / KNOWLEDGE_BASE, output_dir / KNOWLEDGE_BASE)
    written = {PROCESSED[split] for split in splits}
    for name in PROCESSED.values():
        if name in written:
            os.replace(stage / name, output_dir / name)
        elif written:
            # What an earlier preparation left would not fit the new knowledge base.
            (output_dir / name).unlink(missing_ok=True)
