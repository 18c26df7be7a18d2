"""`stepsearch audit`: does the corpus have what the questions need, can a search find it, and what did training see?"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.data import READERS, read_questions
from stepsearch.data.knowledge_base import KNOWLEDGE_BASE, knowledge_base_beside
from stepsearch.data.whole_files import require_writable, write_json
from stepsearch.errors import ConfigError
from stepsearch.preparation.audit import CorpusAudit, audit
from stepsearch.preparation.audit_tables import contamination_lines, coverage_table, notes, recall_table
from stepsearch.preparation.completion import add_passages, missing_documents
from stepsearch.preparation.contamination import Contamination, find_contamination
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.stored_passages import StoredPassages
from stepsearch.types import Question


def run(args: argparse.Namespace) -> None:
    """Audit, complete the knowledge base if asked to, print the tables and write the report.

    Raises:
        ConfigError: there is nothing to audit against.
        DataError: a file or the knowledge base cannot be read, or an output cannot be written.
        SearchError: the knowledge base has no index.
    """
    console = open_console()
    folder = args.knowledge_base or knowledge_base_beside(args.data[0])
    if folder is None and not args.train:
        raise ConfigError(
            f"there is no {KNOWLEDGE_BASE}/ beside {args.data[0]}: name a corpus with --knowledge-base DIR, or a "
            "training set with --train FILE"
        )
    if args.complete and folder is None:
        raise ConfigError("--complete needs the knowledge base that is to be completed: --knowledge-base DIR")
    if args.output is not None:
        require_writable(args.output, [*args.data, *(args.train or [])])
    questions = read_all(args.data, args.max_questions)
    report: dict[str, Any] = {"data": [str(path) for path in args.data], "questions": len(questions)}
    if folder is not None:
        report["knowledge_base"] = str(folder)
        report |= _audit_corpus(questions, folder, args.threshold, args.complete, console)
    report["contamination"] = None
    if args.train:
        report["contamination"] = _check_contamination(questions, args.train, console).to_json()
    if args.output is not None:
        write_json(args.output, report)
        say(console, f"written to {args.output}")


def read_all(paths: Sequence[Path], limit: int | None = None) -> list[Question]:
    """Return the questions of files, of each the first `limit`; those of no dataset are named after their file.

    Raises:
        DataError: a file cannot be read.
    """
    questions: list[Question] = []
    for path in paths:
        stem = path.name.partition(".")[0]
        name = next((dataset for dataset in READERS if stem.startswith(dataset)), stem)
        listed = read_questions(path)[:limit]
        questions += [q if q.dataset else replace(q, dataset=name) for q in listed]
    return questions


def audit_corpus(questions: Sequence[Question], folder: Path, threshold: float, console: Console) -> CorpusAudit:
    """Audit a knowledge base, show how far it is, and print the tables.

    Raises:
        DataError: the knowledge base cannot be read.
        SearchError: it has no index.
    """
    engine = BM25SearchEngine.open(folder)
    progress = StageProgress(console, {"audit": 1.0})
    with progress.running(), progress.stage("audit") as advance:
        result = audit(questions, StoredPassages.open(folder), engine, threshold, advance)
    engine.close()
    console.print(coverage_table(result))
    if any(group.recall for group in result.groups):
        console.print(recall_table(result))
    for line in notes(result):
        say(console, line)
    return result


def _audit_corpus(
    questions: Sequence[Question], folder: Path, threshold: float, complete: bool, console: Console
) -> dict[str, Any]:
    result = audit_corpus(questions, folder, threshold, console)
    if not complete:
        return result.to_json()
    missing = missing_documents(result.locations)
    added = add_passages(folder, missing) if missing else 0
    say(console, f"{added:,} golden documents added to {folder}" if added else f"{folder} lacks nothing: left as it is")
    before = result.to_json()
    if added:
        result = audit_corpus(questions, folder, threshold, console)
    return result.to_json() | {"added": added, "before": before}


def _check_contamination(questions: Sequence[Question], files: Sequence[Path], console: Console) -> Contamination:
    found = find_contamination(questions, (question for path in files for question in read_questions(path)))
    for line in contamination_lines(found):
        say(console, line)
    return found
