"""`stepsearch prepare-data`: raw benchmark files to training data and a knowledge base."""

import argparse
from dataclasses import replace
from pathlib import Path

from stepsearch.cli.audit import audit_corpus, read_all
from stepsearch.cli.progress import open_console, say
from stepsearch.data.whole_files import write_json
from stepsearch.errors import ConfigError
from stepsearch.preparation.coverage import NEAR_DUPLICATE
from stepsearch.preparation.pipeline import CorpusPlan, PreparationReport, prepare_splits
from stepsearch.preparation.split_sources import FOR_TRAINING, SplitSource, hub_sources, raw_sources
from stepsearch.search.passage_sources import PassageSources

AUDIT_FILE = "data_audit.json"
# An audit searches for every one of them, about ten times.
AUDITED_QUESTIONS = 200


def run(args: argparse.Namespace) -> None:
    """Prepare the data, audit it against its knowledge base, and say what comes next.

    Raises:
        ConfigError: the flags name nothing to prepare.
        DataError: a raw file is missing or malformed, or the output folder cannot be written.
    """
    folder = args.output_dir
    if args.corpus is None and args.passage_words is not None:
        raise ConfigError("--passage-words is for --corpus FOLDER: name one, or leave it out")
    sources = _sources(args)
    if not sources and args.corpus is None:
        raise ConfigError("nothing to prepare: name --raw-musique-dir, --raw-dir, --hf-dataset or --corpus")
    source = None if args.corpus is None else PassageSources([args.corpus], args.passage_words)
    corpus = CorpusPlan(args.build_knowledge_base, source, index=not args.without_index)
    report = prepare_splits(sources, folder, args.max_train_samples, corpus, report=print)
    if report.splits:
        # An earlier preparation's would not fit.
        (folder / AUDIT_FILE).unlink(missing_ok=True)
    if report.splits and report.knowledge_base is not None and corpus.index:
        _audit(report, report.knowledge_base)
    if report.train_path is not None:
        dev = f"--eval-musique-path {report.dev_path} " if report.dev_path is not None else ""
        print(f"next: stepsearch train --musique-path {report.train_path} {dev}--output-dir runs/train")


def _sources(args: argparse.Namespace) -> list[SplitSource]:
    if (args.raw_dir is None) != (args.dataset is None):
        raise ConfigError("--raw-dir DIR and --dataset NAME go together")
    if args.hf_dataset is not None:
        return hub_sources(args.hf_dataset)
    if args.raw_musique_dir is not None:
        return raw_sources(args.raw_musique_dir, "musique", FOR_TRAINING)
    return [] if args.raw_dir is None else raw_sources(args.raw_dir, args.dataset)


def _audit(report: PreparationReport, knowledge_base: Path) -> None:
    console = open_console()
    questions = [
        replace(question, dataset=f"{question.dataset} {split}")
        for split, path in report.splits.items()
        for question in read_all([path], AUDITED_QUESTIONS)
    ]
    say(console, f"audit of the first {AUDITED_QUESTIONS} questions of each file ({len(questions):,}):")
    result = audit_corpus(questions, knowledge_base, NEAR_DUPLICATE, console)
    write_json(knowledge_base.parent / AUDIT_FILE, {"questions": len(questions)} | result.to_json())
