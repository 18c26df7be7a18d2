"""Shows an episode in colour as it happens: thoughts, searches, documents, and the answer."""

from rich.console import Console
from rich.text import Text

from stepsearch.protocol import ANSWER, INFORMATION, SEARCH, THINK, blocks
from stepsearch.rollout.runner import EpisodeEvent
from stepsearch.types import Passage, StopReason, Trajectory

_STYLES = {THINK: "dim italic", SEARCH: "bold cyan", ANSWER: "bold green", INFORMATION: "magenta"}
_SHOWN_CHARACTERS = 300


class EpisodePrinter:
    """Prints the events of one episode; hand `show` to the runner as `on_event`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, event: EpisodeEvent) -> None:
        """Print one event."""
        if event.kind == "turn":
            for name, content in blocks(event.text):
                self._line(name or "text", content, _STYLES.get(name, "yellow"))
        elif event.kind == "documents":
            self._documents(event.passages)
        elif event.trajectory is not None:
            self._end(event.trajectory)

    def show_trajectory(self, trajectory: Trajectory) -> None:
        """Print a finished episode."""
        for name, content in blocks(trajectory.response_text):
            self._line(name or "text", content, _STYLES.get(name, "yellow"))
        self._end(trajectory)

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
