"""`stepsearch inference`: ask a trained policy and watch it search."""

import argparse

from rich.console import Console

from stepsearch.cli.episode_printer import EpisodePrinter
from stepsearch.cli.progress import open_console, say
from stepsearch.cli.saved_agent import open_saved_agent
from stepsearch.config import Config
from stepsearch.errors import ConfigError, DataError, StepSearchError
from stepsearch.rollout import RolloutRunner, episode_seed
from stepsearch.types import Question, Trajectory

_LEAVE = ("exit", "quit")


def run(args: argparse.Namespace) -> None:
    """Answer one question, or one after the other until the user leaves.

    Raises:
        ConfigError: single mode has no question.
        DataError: the knowledge base is not there.
        ModelError: the model cannot be loaded.
    """
    if args.mode == "single" and not (args.question or "").strip():
        raise ConfigError('--mode single asks one question: add --question "…"')
    console = open_console()
    session = open_session(args, console)
    if args.mode == "single":
        session.ask(args.question)
    else:
        session.converse()


def open_session(args: argparse.Namespace, console: Console) -> "InferenceSession":
    """Return a session with the model and the corpus that the flags name."""
    player = open_saved_agent(args, console)
    return InferenceSession(player.watched_runner(player.config.evaluation.temperature), player.config, console)


class InferenceSession:
    """Asks questions one by one and shows each episode as it happens."""

    def __init__(self, runner: RolloutRunner, config: Config, console: Console) -> None:
        self._runner = runner
        self._config = config
        self._console = console
        self._asked = 0

    def ask(self, text: str) -> Trajectory:
        """Answer one question, showing thoughts, searches, documents and the answer.

        Raises:
            DataError: the question is no whole text, or does not fit the context.
        """
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError("the question is not UTF-8 text: type it again")
        self._asked += 1
        question = Question(id=f"question {self._asked}", question=text.strip(), answers=())
        seed = episode_seed(self._config.seed, self._asked)
        return self._runner.run([question], [seed], EpisodePrinter(self._console).show)[0]

    def converse(self) -> None:
        """Answer until `exit` or the end of the input; an error is shown and the session goes on."""
        self._console.print("Ask a question; exit leaves.", style="dim")
        while (text := self._read()) is not None:
            try:
                if text:
                    self.ask(text)
            except StepSearchError as error:
                say(self._console, f"error: {error}", style="bold red")
            except KeyboardInterrupt:
                self._console.print("stopped", style="bold red")
            except Exception:
                self._console.print_exception()

    def _read(self) -> str | None:
        try:
            text = self._console.input("[bold]question[/bold]> ").strip()
        except (EOFError, KeyboardInterrupt):
            self._console.print()
            return None
        return None if text.lower() in _LEAVE else text
