"""`stepsearch push`: a saved model to the hub, with what an evaluation measured in its card."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepsearch.cli.hub_upload import refuse_impossible_upload, upload_model
from stepsearch.cli.progress import open_console, say
from stepsearch.cli.run_records import add_results
from stepsearch.errors import DataError
from stepsearch.evaluation.result_files import SUMMARY, results_folder
from stepsearch.models.model_card import FIGURES
from stepsearch.models.run_record import Result

EVALUATION = "evaluation"


def run(args: argparse.Namespace) -> None:
    """Put the figures into the card, if there are any, and send the folder.

    Raises:
        ConfigError: the name is none that the hub has, or nobody is logged in.
        DataError: the results cannot be read, or are another model's.
        ModelError: the folder is no saved model, or the hub cannot be reached or refuses.
    """
    console, folder = open_console(), args.model_path.expanduser()
    refuse_impossible_upload(args.repo)
    if args.results is not None:
        add_results(folder, measured_results(args.results, folder))
    say(console, f"pushed to {upload_model(folder, args.repo, private=args.private)}")


def measured_results(results: Path, model: Path) -> tuple[Result, ...]:
    """Return EM and F1 of every dataset that an evaluation of the model has, with intervals.

    Raises:
        DataError: there is none, or it is another model's.
    """
    path = results_folder(results) / SUMMARY
    try:
        summary: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        evaluated = Path(summary["model"]).expanduser()
        found = tuple(
            Result(
                dataset=dataset,
                split=EVALUATION,
                figure=name,
                value=figure["value"],
                count=figure["count"],
                low=figure["low"],
                high=figure["high"],
                corpus=summary["corpus"],
            )
            for dataset, measured in summary["datasets"].items()
            for name, figure in measured["figures"].items()
            if name in FIGURES and figure["value"] is not None
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as an evaluation's summary: {error!r}") from None
    if evaluated.resolve() != model.resolve():
        raise DataError(f"{path} is an evaluation of {summary['model']}, not of {model}")
    return found
