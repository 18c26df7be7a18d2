"""Every flag of every command, on one page. Light on imports, so that `--help` answers at once."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich_argparse import ArgumentDefaultsRichHelpFormatter

COMPARED = ("steppo", "ppo", "gain", "penalty", "key", "gain-penalty")
DATASETS = ("hotpotqa", "2wiki", "musique", "bamboogle")
_OVERRIDES = "Trailing section.key=value tokens override settings, for example training.max_steps=10."


class _Help(ArgumentDefaultsRichHelpFormatter):
    """Says what a flag is by default, where that is something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is not None and action.default is not False
        return super()._get_help_string(action) if has_default else action.help


Commands = Any
"""What `add_subparsers` returns: argparse has no public name for it."""


def build_parser() -> tuple[argparse.ArgumentParser, Commands]:
    """Return the parser of `stepsearch` and its commands; a parsed namespace names its command in `command`."""
    parser = argparse.ArgumentParser(
        prog="stepsearch",
        description="Train language models to search, with a reward for every search step (StePPO).",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _quickstart(_command(commands, "quickstart", "Run the whole pipeline on the embedded default, on a laptop."))
    _prepare_data(_command(commands, "prepare-data", "Turn MuSiQue's files into training data and a knowledge base."))
    _train(_command(commands, "train", "Train a policy with StePPO."))
    _compare(_command(commands, "compare", "Compare training methods, or any two configs, over several seeds."))
    _evaluate(_command(commands, "evaluate", "Measure EM and F1 on the benchmarks."))
    _inference(_command(commands, "inference", "Ask a trained policy and watch it search."))
    _serve_search(_command(commands, "serve-search", "Answer searches over HTTP or MCP, as Search-R1's server does."))
    return parser, commands


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed flags, with the `section.key=value` tokens in `overrides` (a seed flag is one of them).

    Raises:
        SystemExit: with code 2 for wrong flags, 0 after `--help`.
    """
    parser, commands = build_parser()
    with_value = frozenset().union(*map(_options_with_a_value, commands.choices.values()))
    flags, overrides = split_overrides(argv, with_value)
    args = parser.parse_args(flags)
    if getattr(args, "seed", None) is not None:
        overrides.append(f"seed={args.seed}")
    if overrides and not hasattr(args, "config"):
        parser.error(f"{args.command} has no settings to override: {' '.join(overrides)}")
    args.overrides = overrides
    return args


def split_overrides(argv: Sequence[str], options_with_a_value: frozenset[str]) -> tuple[list[str], list[str]]:
    """Return the flags and the override tokens: those with `=` that are neither an option nor an option's value."""
    flags: list[str] = []
    overrides: list[str] = []
    for previous, token in zip(["", *argv], argv, strict=False):
        is_override = "=" in token and not token.startswith("-") and previous not in options_with_a_value
        (overrides if is_override else flags).append(token)
    return flags, overrides


def _options_with_a_value(parser: argparse.ArgumentParser) -> frozenset[str]:
    """Return the option strings that take exactly one value."""
    actions = parser._actions  # argparse offers no public list of them
    return frozenset(name for action in actions if action.nargs is None for name in action.option_strings)


def _command(commands: Commands, name: str, summary: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=None if name == "prepare-data" else _OVERRIDES,
        formatter_class=_Help,
        allow_abbrev=False,
    )


def _settings(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="Seeds data order, initialisation and sampling.")


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="Settings as YAML; every key has a default.")


def _quickstart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output-dir", type=Path, default=Path("runs/quickstart"), metavar="DIR", help="The run.")
    parser.add_argument("--resume", action="store_true", help="Go on with an interrupted run.")
    _settings(parser)


def _prepare_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--raw-musique-dir", type=Path, required=True, metavar="DIR", help="MuSiQue's published files.")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="Where the prepared data goes.")
    parser.add_argument("--max-train-samples", type=_positive, metavar="N", help="Keep the first N training questions.")
    parser.add_argument("--build-knowledge-base", action="store_true", help="Index every paragraph for searching.")


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--musique-path", type=Path, required=True, metavar="FILE", help="Training questions.")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="The run: checkpoints, logs.")
    parser.add_argument("--eval-musique-path", type=Path, metavar="FILE", help="Questions that choose the best model.")
    parser.add_argument("--resume", action="store_true", help="Go on from the last checkpoint.")
    _settings(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--methods", nargs="+", metavar="NAME", help=f"Any of: {', '.join(COMPARED)}. Default: steppo ppo.")
    add("--method", action="append", metavar="NAME=…", help="One of your own: a FILE.yaml, or section.key=value,…")
    add(
        "--seeds",
        type=_positive,
        default=5,
        metavar="N",
        help="How many seeds, each with its own start and generated world.",
    )
    add("--first-seed", type=_natural, default=0, metavar="N", help="The first of them.")
    add("--output-dir", type=Path, default=Path("runs/compare"), metavar="DIR", help="All runs, and the report.")
    add("--jobs", type=_positive, default=1, metavar="N", help="Runs trained at the same time, in processes.")
    add("--musique-path", type=Path, metavar="FILE", help="Training questions; default: a generated world.")
    add("--eval-musique-path", type=Path, metavar="FILE", help="Questions that choose the best checkpoint.")
    add("--test-musique-path", type=Path, metavar="FILE", help="Questions of the report.")
    add("--report-only", action="store_true", help="Make the report anew from the runs that are finished.")
    _config(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-path", required=True, metavar="DIR", help="A trained model, or any causal LM.")
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=["musique"], metavar="NAME", help=_names())
    parser.add_argument("--musique-dir", type=Path, required=True, metavar="DIR", help="The benchmarks' files.")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="Summary and predictions.")
    parser.add_argument("--compare-baselines", action="store_true", help="Also measure answering without the method.")
    parser.add_argument("--knowledge-base", type=Path, metavar="DIR", help="Search here, not in the files' contexts.")
    parser.add_argument(
        "--max-questions", type=_positive, metavar="N", help="Only the first N questions of each dataset."
    )
    _settings(parser)


def _inference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-path", required=True, metavar="DIR", help="A trained model.")
    parser.add_argument("--mode", choices=("interactive", "single"), default="interactive", help="A session, or one.")
    parser.add_argument("--question", metavar="TEXT", help="What to ask in single mode.")
    parser.add_argument("--knowledge-base", type=Path, metavar="DIR", help="Search here, not where training did.")
    _settings(parser)


def _serve_search(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--knowledge-base", type=Path, metavar="DIR", help="Search here, with BM25 unless search.engine_type=NAME.")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="Where to listen; 0.0.0.0: on every network.")
    add("--port", type=_natural, default=8000, metavar="N", help="0 takes any that is free.")
    add("--workers", type=_positive, default=1, metavar="N", help="Processes that share the index.")
    add("--token", metavar="TEXT", help="Bearer token that clients must show; or in STEPSEARCH_TOKEN.")
    add("--max-batch", type=_positive, default=256, metavar="N", help="Queries per call of the engine.")
    add("--batch-milliseconds", type=float, default=2.0, metavar="N", help="How long a query waits for others.")
    add("--max-waiting", type=_positive, default=16_384, metavar="N", help="More unanswered queries: 503.")
    add("--max-queries", type=_positive, default=4_096, metavar="N", help="Queries of one request.")
    add("--max-query-characters", type=_positive, default=16_384, metavar="N", help="Length of one query.")
    add("--max-top-k", type=_positive, default=100, metavar="N", help="Documents per query that may be asked for.")
    add("--max-request-bytes", type=_positive, default=8_388_608, metavar="N", help="Size of one request.")
    mcp = parser.add_mutually_exclusive_group()
    mcp.add_argument("--mcp", action="store_true", help="Speak MCP on standard input and output instead of HTTP.")
    mcp.add_argument("--mcp-http", action="store_true", help="Also answer MCP, at /mcp.")
    _config(parser)


def _names() -> str:
    return f"Any of: {', '.join(DATASETS)}."


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


_natural.__name__ = "whole number"
_positive.__name__ = "positive number"  # argparse names the type in its message: invalid positive number value: '0'
