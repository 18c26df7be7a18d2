"""What README and docs tell a user to type is what the program understands."""

import re
import shlex
from pathlib import Path

import pytest

from stepsearch.cli.command_line import parse
from stepsearch.config import load_config

PROJECT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(str(page.relative_to(PROJECT)) for page in PROJECT.glob("docs/*.md")))
PROMISED = {
    "prepare-data": {"--raw-musique-dir", "--output-dir", "--max-train-samples", "--build-knowledge-base"},
    "train": {"--musique-path", "--output-dir", "--eval-musique-path"},
    "evaluate": {"--model-path", "--datasets", "--musique-dir", "--output-dir", "--compare-baselines"},
    "inference": {"--model-path", "--mode", "--question"},
}


def commands_of(page: str) -> list[list[str]]:
    """Return the words of every command in the page's shell blocks and inline code; comments are left out."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    shell = [line for line in lines if re.match(r"(\.venv/bin/)?(stepsearch|python scripts/\S+|make) ", line)]
    return [shlex.split(line, comments=True) for line in shell if "|" not in line]


def arguments_of(command: list[str]) -> list[str] | None:
    """Return what the program's parser is given for a command line; None where it is another program's."""
    program, *rest = command
    if program.endswith("stepsearch"):
        return rest
    if program == "python":
        return [Path(rest[0]).stem.replace("_", "-"), *rest[1:]]
    return None


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_is_understood(page: str) -> None:
    for command in commands_of(page):
        arguments = arguments_of(command)
        if arguments is not None:
            args = parse(arguments)
            load_config(getattr(args, "config", None) and PROJECT / args.config, args.overrides)


@pytest.mark.parametrize("page", PAGES)
def test_every_script_and_make_target_is_there(page: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for program, name, *_ in commands_of(page):
        if program == "make":
            assert name in targets
        elif program == "python":
            assert (PROJECT / name).is_file()


def test_the_readme_shows_every_promised_flag() -> None:
    shown: dict[str, set[str]] = {}
    for arguments in filter(None, map(arguments_of, commands_of("README.md"))):
        shown.setdefault(arguments[0], set()).update(word for word in arguments if word.startswith("--"))
    for command, flags in PROMISED.items():
        assert flags <= shown[command]
    assert [command[1] for command in commands_of("README.md") if command[0] == "make"][:2] == ["quickstart", "test"]
