"""Shows an episode in colour as it happens: thoughts, searches, documents, and the answer."""

from collections.abc import Callable, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from stepsearch.protocol import ANSWER, INFORMATION, SEARCH, THINK, blocks
from stepsearch.rollout.flight import EpisodeEvent
from stepsearch.types import Passage, StopReason, Trajectory

_ENVIRONMENT = "environment"
_STYLES = {_ENVIRONMENT: "dim", THINK: "dim italic", SEARCH: "bold cyan", ANSWER: "bold green", INFORMATION: "magenta"}
_SHOWN_CHARACTERS = 300


class EpisodePrinter:
    """Prints the events of one episode; hand `show` to the runner as `on_event`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: EpisodeEvent) -> None:
        """Print one event."""
        if event.kind == "turn":
            self._turn(event.text)
        elif event.kind == "documents":
            self._documents(event.passages)
        elif event.trajectory is not None:
            self._end(event.trajectory)

    def show_trajectory(self, trajectory: Trajectory, decode: Callable[[Sequence[int]], str]) -> None:
        """Print a finished episode, what the environment wrote apart from what the policy sampled.

        Args:
            trajectory: the episode.
            decode: returns the text of token ids.
        """
        tokens = zip(trajectory.response_mask, trajectory.response_ids, strict=True)
        for sampled, run in groupby(tokens, key=lambda token: token[0]):
            text = decode([token_id for _, token_id in run])
            if sampled:
                self._turn(text)
            else:
                self._observation(text)
        self._end(trajectory)

    def _turn(self, text: str) -> None:
        for name, content in blocks(text):
            self._line(name or "text", content, _STYLES.get(name, "yellow"))

    def _observation(self, text: str) -> None:
        for name, content in blocks(text, sampled=False):
            self._line(name or _ENVIRONMENT, content, _STYLES[name or _ENVIRONMENT])

    def _documents(self, passages: tuple[Passage, ...]) -> None:
        if not passages:
            self._line("documents", "none found", "magenta")
        for rank, passage in enumerate(passages, start=1):
            text = f"{passage.title}: {passage.text}" if passage.title else passage.text
            shown = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1].rstrip() + "…"
            self._line(f"doc {rank}", shown, "magenta")

    def _end(self, trajectory: Trajectory) -> None:
        if trajectory.stop_reason is not StopReason.ANSWERED:
            reason = str(trajectory.stop_reason).replace("_", " ")
            self._line("no answer", f"the episode ended: {reason}", "bold red")

    def _line(self, label: str, content: str, style: str) -> None:
        self._console.print(Text.assemble((f"{label:>11}  ", "bold"), (content, style)), soft_wrap=True)
