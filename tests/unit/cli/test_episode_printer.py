"""A finished episode as it is shown: whose words are whose."""

import io

from rich.console import Console

from stepsearch.cli.episode_printer import EpisodePrinter
from stepsearch.protocol import CORRECTION, INFORMATION_PREFIX, INFORMATION_SUFFIX, NO_SEARCH_LEFT
from stepsearch.types import Question, StopReason, Trajectory


def shown(*segments: tuple[int, str], reason: StopReason = StopReason.ANSWERED) -> list[str]:
    """Show an episode of one token per character; return what is printed, word by word."""
    text = "".join(text for _, text in segments)
    trajectory = Trajectory(
        question=Question("1", "Who?", ("Bor",)),
        prompt_ids=(),
        response_ids=tuple(map(ord, text)),
        response_mask=tuple(mask for mask, part in segments for _ in part),
        rollout_logprobs=(0.0,) * len(text),
        steps=(),
        answer=None,
        format_error=None,
        stop_reason=reason,
    )
    stream = io.StringIO()
    printer = EpisodePrinter(Console(file=stream, width=200))
    printer.show_trajectory(trajectory, lambda ids: "".join(map(chr, ids)))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_a_correction_is_not_the_policys_own() -> None:
    assert shown((1, "hm"), (0, CORRECTION), (1, "<answer>Bor</answer>")) == [
        "text hm",
        "environment That was no valid action. Search with <search>query</search> or answer with "
        "<answer>answer</answer>.",
        "answer Bor",
    ]


def test_documents_and_the_last_search() -> None:
    observation = f"{INFORMATION_PREFIX}Doc 1 Velm{INFORMATION_SUFFIX}{NO_SEARCH_LEFT}"
    lines = shown((1, "<think>a</think><search>b</search>"), (0, observation), reason=StopReason.CONTEXT_FULL)
    assert lines == [
        "think a",
        "search b",
        "information Doc 1 Velm",
        "environment No search is left. Answer with <answer>answer</answer>.",
        "no answer the episode ended: context full",
    ]
