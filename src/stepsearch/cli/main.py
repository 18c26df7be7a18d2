"""The program `stepsearch`: find the command, run it, and turn what goes wrong into one line and an exit code."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stepsearch.cli.command_line import parse
from stepsearch.cli.launch import LOST, launch
from stepsearch.errors import ProcessLostError, StepSearchError

USER_ERROR, INTERRUPTED = 2, 130
# Commands that go on with what an interrupted run has finished, without being told to.
_GOING_ON = ("index", "index-dense")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 2 for a mistake of the user's, 130 when interrupted.

    Of several processes of a command, one returns 3 that misses another. Anything else that goes wrong is a bug and
    keeps its traceback.
    """
    words = sys.argv[1:] if argv is None else argv
    args = parse(words)
    output_dir: Path | None = getattr(args, "output_dir", None)
    is_new = output_dir is not None and not output_dir.exists()
    # Imported here, not above: a command brings torch, and neither --help nor a mistyped setting should wait for it.
    try:
        from stepsearch.config import refuse_impossible

        refuse_impossible(getattr(args, "config", None), args.overrides)
        if getattr(args, "num_processes", 1) > 1:
            return launch(words, args.num_processes)
        command = importlib.import_module(f"stepsearch.cli.{args.command.replace('-', '_')}")
        silence_loading_bars()
        command.run(args)
    except StepSearchError as error:
        if output_dir is not None and is_new:
            _remove_empty(output_dir)
        print(f"error: {error}", file=sys.stderr)
        return LOST if isinstance(error, ProcessLostError) else USER_ERROR
    except KeyboardInterrupt:
        print(f"\ninterrupted{_how_to_go_on(args)}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _how_to_go_on(args: argparse.Namespace) -> str:
    if "resume" in args:
        return "; continue with --resume"
    return "; the same command goes on with what is finished" if args.command in _GOING_ON else ""


def _remove_empty(folder: Path) -> None:
    """Remove the folders that a refused command made and put nothing into."""
    for path in (*folder.glob("*"), folder):
        with suppress(OSError):
            path.rmdir()


def silence_loading_bars() -> None:
    """Switch off the bars that transformers draws for every model it reads, where a command has imported it."""
    if "transformers" in sys.modules:
        sys.modules["transformers"].utils.logging.disable_progress_bar()


if __name__ == "__main__":
    sys.exit(main())
