"""`stepsearch prepare-data`: raw benchmark files to training data and a knowledge base."""

import argparse

from stepsearch.preparation.pipeline import prepare


def run(args: argparse.Namespace) -> None:
    """Prepare the data and say what comes next.

    Raises:
        DataError: a raw file is missing or malformed, or the output folder cannot be written.
    """
    folder = args.output_dir
    prepare(args.raw_musique_dir, folder, args.max_train_samples, args.build_knowledge_base, report=print)
    print(
        f"next: stepsearch train --musique-path {folder / 'train_processed.json'} "
        f"--eval-musique-path {folder / 'dev_processed.json'} --output-dir runs/train"
    )
