"""What was typed, read: flags, and the `section.key=value` tokens among them."""

import argparse
import difflib
import re
from collections.abc import Sequence
from itertools import takewhile

from stepsearch.cli.arguments import build_parser

_OVERRIDE = re.compile(r"[^\s=-][^\s=]*=")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed flags, with the `section.key=value` tokens in `overrides` (a seed flag is one of them).

    All that was typed is in `typed`.

    Raises:
        SystemExit: with code 2 for wrong flags, 0 after `--help`.
    """
    parser, commands = build_parser()
    with_value = frozenset().union(*map(_options_with_a_value, commands.choices.values()))
    flags, overrides = _split_overrides(argv, with_value)
    if (
        flags
        and not flags[0].startswith("-")
        and (near := difflib.get_close_matches(flags[0], commands.choices, n=1))
        and flags[0] not in near
    ):
        parser.error(f"there is no command {flags[0]}; did you mean {near[0]}?")
    if flags and flags[0] in commands.choices:
        _refuse_unknown_flags(commands.choices[flags[0]], flags[1:])
    args = parser.parse_args(flags)
    if getattr(args, "seed", None) is not None:
        overrides.append(f"seed={args.seed}")
    if getattr(args, "temperature", None) is not None:
        overrides.append(f"evaluation.temperature={args.temperature}")
    if overrides and not hasattr(args, "config"):
        parser.error(f"{args.command} has no settings to override: {' '.join(overrides)}")
    args.overrides = overrides
    args.typed = list(argv)
    return args


def _refuse_unknown_flags(command: argparse.ArgumentParser, flags: Sequence[str]) -> None:
    """Refuse a flag that the command has not, before argparse misses the one that was meant.

    Raises:
        SystemExit: with code 2.
    """
    known = [name for action in command._actions for name in action.option_strings]
    for flag in takewhile(lambda flag: flag != "--", flags):
        name = flag.partition("=")[0]
        if name.startswith("--") and "." in name:
            command.error(f"{name}: a setting is given without dashes, as {name.removeprefix('--')}=VALUE")
        if flag == "=":
            command.error("a setting is given without spaces, as section.key=VALUE")
        if name.startswith("--") and name != "--" and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            command.error(f"unrecognized arguments: {name}" + (f"; did you mean {near[0]}?" if near else ""))


def _split_overrides(argv: Sequence[str], options_with_a_value: frozenset[str]) -> tuple[list[str], list[str]]:
    """Return the flags and the override tokens: those with a key before `=` that are no option's value.

    Nothing after `--` is an override, so that any text can be asked for.
    """
    flags: list[str] = []
    overrides: list[str] = []
    end = argv.index("--") if "--" in argv else len(argv)
    for previous, token in zip(["", *argv[:end]], argv[:end], strict=False):
        is_override = _OVERRIDE.match(token) is not None and previous not in options_with_a_value
        (overrides if is_override else flags).append(token)
    return [*flags, *argv[end:]], overrides


def _options_with_a_value(parser: argparse.ArgumentParser) -> frozenset[str]:
    """Return the option strings that take exactly one value."""
    actions = parser._actions  # argparse offers no public list of them
    return frozenset(name for action in actions if action.nargs is None for name in action.option_strings)
