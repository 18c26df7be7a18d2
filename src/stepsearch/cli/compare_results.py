"""`stepsearch compare-results`: two evaluations of the same questions, and what can be said of the difference."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepsearch.cli.progress import open_console, say
from stepsearch.data.whole_files import require_writable, write_json
from stepsearch.evaluation.bootstrap import RESAMPLES
from stepsearch.evaluation.paired import compare_predictions, shared_files
from stepsearch.evaluation.result_files import SUMMARY, results_folder
from stepsearch.evaluation.result_tables import paired_sheet

# What two evaluations should share, so that their models are all that differs.
_SAME = ("corpus", "search.top_k", "reward.max_search_steps", "evaluation.temperature")


def run(args: argparse.Namespace) -> None:
    """Compare every predictions file that both have, print a table for each, and write them on request.

    Raises:
        DataError: there is nothing to compare, or a file cannot be read or written.
    """
    if args.output is not None:
        require_writable(args.output)
    console = open_console()
    results = {
        name: compare_predictions(first, second)
        for name, (first, second) in shared_files(args.first, args.second).items()
    }
    for name, result in results.items():
        console.print(paired_sheet(name, result, str(args.first), str(args.second)).to_table())
    warnings = differing_settings(args.first, args.second)
    for line in warnings:
        say(console, line)
    if args.output is not None:
        record = {
            "a": str(args.first),
            "b": str(args.second),
            "resamples": RESAMPLES,
            "differing_settings": warnings,
            "results": {name: result.to_json() for name, result in results.items()},
        }
        write_json(args.output, record)
        say(console, f"written to {args.output}")


def differing_settings(first: Path, second: Path) -> Sequence[str]:
    """Return a line for each setting besides the model in which two evaluations differ, as far as they say."""
    summaries = [_summary(path) for path in (first, second)]
    lines: list[str] = []
    for key in _SAME if all(summaries) else ():
        a, b = (_value(summary, key) for summary in summaries)
        if a != b:
            lines.append(f"note: A and B differ in {key}: {a}, {b}")
    return lines


def _summary(path: Path) -> Mapping[str, Any]:
    folder = path.parent if path.is_file() else results_folder(path)
    try:
        return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _value(summary: Mapping[str, Any], key: str) -> Any:
    value: Any = summary if key == "corpus" else summary.get("config", {})
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
