"""IRCoT: a sentence, a search with it, until a sentence names the answer; then the reader."""

import pytest

from stepsearch.evaluation.baselines import BASELINES
from stepsearch.evaluation.baselines.answers import sentence_end
from stepsearch.evaluation.baselines.ircot import EXAMPLE, INSTRUCTION
from stepsearch.types import StopReason

IRCOT = BASELINES["ircot"]
SALT = "Wikipedia Title: The Salt Road\nThe Salt Road is a novel by Ada Kern."
ADA = "Wikipedia Title: Ada Kern\nAda Kern was born in Tolvik."
QUESTION = "Where was the author of Salt Road born?"


def reasoner(context: str) -> str:
    """Reason as the example does, and run on past the sentence as a language model does."""
    if context.endswith("A:"):
        return (
            " Salt Road is by Ada Kern. More. So the answer is: X."
            if ADA not in context
            else (" Ada Kern was born in Tolvik. So the answer is: Tolvik.\n\n\nWikipedia")
        )
    return " So the answer is: Tolvik. And more."


def test_the_transcript_by_hand(scripted, play) -> None:
    generator = scripted(reasoner)
    (trajectory,) = play(IRCOT, generator, QUESTION)

    head, ask = INSTRUCTION + EXAMPLE, f"\n\nQ: {QUESTION}\nA:"
    assert generator.contexts == [
        f"{head}{SALT}{ask}",
        f"{head}{SALT}\n\n{ADA}{ask} Salt Road is by Ada Kern.",
        f"{head}{SALT}\n\n{ADA}{ask}",
    ]
    assert trajectory.response_text == (
        f" Salt Road is by Ada Kern.\n\n{ADA}\n\n So the answer is: Tolvik."
        " Ada Kern was born in Tolvik. So the answer is: Tolvik."
    )
    assert [step.query for step in trajectory.steps] == [QUESTION, "Salt Road is by Ada Kern."]
    assert [[passage.id for passage in step.passages] for step in trajectory.steps] == [["salt"], ["salt", "ada"]]
    assert [step.end_position for step in trajectory.steps] == [0, len(" Salt Road is by Ada Kern.") - 1]
    assert (trajectory.answer, trajectory.stop_reason) == ("Tolvik", StopReason.ANSWERED)
    found = len(f"\n\n{ADA}\n\n")
    assert trajectory.response_mask[26 : 26 + found] == (0,) * found
    assert sum(trajectory.response_mask) == len(trajectory.response_ids) - found


def test_the_budget_of_searches_ends_the_reasoning(scripted, play) -> None:
    generator = scripted(lambda context: " Ada thinks. And thinks.")
    (trajectory,) = play(IRCOT, generator, QUESTION, max_searches=3)

    assert len(trajectory.steps) == 3
    assert len(generator.contexts) == 4  # A sentence after each search, and the reader.
    assert trajectory.answer == "Ada thinks. And thinks"  # The reader's last line, as it names no answer.


def test_a_failed_search_is_told_and_the_reasoning_goes_on(scripted, play) -> None:
    sentences = iter([" It is broken.", " So the answer is: x.", " So the answer is: x."])
    generator = scripted(lambda context: next(sentences))
    (trajectory,) = play(IRCOT, generator, "zzz?")

    assert [step.failed for step in trajectory.steps] == [False, True]
    assert "No documents were found.\n\nQ: zzz?" in generator.contexts[0]
    assert "The search failed.\n\nQ: zzz?\nA: It is broken." in generator.contexts[1]
    assert trajectory.response_text.startswith(" It is broken.\n\nThe search failed.\n\n")
    assert trajectory.answer == "x"


def test_what_does_not_fit_is_left_out_for_the_reader(scripted, play) -> None:
    head = len(INSTRUCTION + EXAMPLE + SALT + f"\n\nQ: {QUESTION}\nA:")
    generator = scripted(reasoner, max_length=head + 60)
    (trajectory,) = play(IRCOT, generator, QUESTION)

    assert len(trajectory.steps) == 2
    assert ADA in generator.contexts[1]
    assert ADA not in generator.contexts[2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" One. Two.", " One."),
        (" It was by J. R. R. Tolkien. He", " It was by J. R. R. Tolkien."),
        (" He lived in St. Ives! And", " He lived in St. Ives!"),
        (' "Who?" she said.\nMore', ' "Who?"'),
        (" It cost 3.5 dollars.\n", " It cost 3.5 dollars."),
        ("\n\n A line\nMore", "\n\n A line"),
        (" Not yet.", None),
        ("", None),
    ],
)
def test_where_a_sentence_ends(text, sentence) -> None:
    end = sentence_end(text)
    assert (None if end is None else text[:end]) == sentence
