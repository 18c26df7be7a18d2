"""Questions for training: from a file, from a user's own items, or as they are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

from stepsearch.data.processed import question_from_record
from stepsearch.data.question_files import read_questions
from stepsearch.data.records import as_record
from stepsearch.errors import DataError
from stepsearch.protocol import render_prompt
from stepsearch.types import Question


@runtime_checkable
class PromptEncoder(Protocol):
    """What turns a question into the ids of its whole prompt."""

    def encode_prompt(self, question: str) -> list[int]:
        """Return the prompt's token ids."""
        ...


# A transformers tokenizer: called with texts, it returns `input_ids`.
TextTokenizer = Callable[[list[str]], Mapping[str, Any]]


class StepSearchDataset(Sequence[Question]):
    """Questions in order, with gold data where the source has it.

    Example:
        StepSearchDataset(
            [{"question": "…", "answer": "…", "subquestions": [{"sub_question": "…", "search_queries": ["…"]}]}],
            tokenizer,
        )
    """

    def __init__(
        self,
        custom_data: str | Path | Sequence[Mapping[str, Any] | Question],
        tokenizer: PromptEncoder | TextTokenizer | None = None,
    ) -> None:
        """Load the questions.

        Args:
            custom_data: a file that `read_questions` reads, or items of the processed format, of which `question` and
                `answer` suffice, or questions.
            tokenizer: what `check_fits` measures prompts with.

        Raises:
            DataError: the file or an item is malformed (its index and key are named), an id occurs twice, or there is
                no question.
        """
        if isinstance(custom_data, str | Path):
            self._questions = read_questions(Path(custom_data))
        else:
            self._questions = [_as_question(item, index) for index, item in enumerate(custom_data)]
            _refuse_repeated_ids(self._questions)
        if not self._questions:
            raise DataError("the dataset is empty: it needs at least one question")
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self._questions)

    @overload
    def __getitem__(self, index: int) -> Question: ...
    @overload
    def __getitem__(self, index: slice) -> list[Question]: ...
    def __getitem__(self, index: int | slice) -> Question | list[Question]:
        return self._questions[index]

    def check_fits(self, max_prompt_tokens: int) -> None:
        """Refuse questions whose prompt is too long, since a question is never cut.

        Raises:
            DataError: a prompt has more tokens than `max_prompt_tokens`, or the dataset was made without a tokenizer.
        """
        if self._tokenizer is None:
            raise DataError("prompts cannot be measured: give StepSearchDataset a tokenizer")
        lengths = _prompt_lengths([question.question for question in self._questions], self._tokenizer)
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        if lengths[longest] > max_prompt_tokens:
            too_long = sum(length > max_prompt_tokens for length in lengths)
            raise DataError(
                f"question {self._questions[longest].id}: its prompt has {lengths[longest]} tokens and "
                f"{max_prompt_tokens} fit ({too_long} of {len(lengths)} questions are too long): raise model.max_length"
            )


def _as_question(item: Any, index: int) -> Question:
    if isinstance(item, Question):
        return item
    return question_from_record(as_record(item, f"custom_data, item {index}"))


def _refuse_repeated_ids(questions: Sequence[Question]) -> None:
    first_seen: dict[str, int] = {}
    for index, question in enumerate(questions):
        if first_seen.setdefault(question.id, index) != index:
            first = first_seen[question.id]
            raise DataError(f"custom_data, item {index}: id {question.id} is that of item {first}")


def _prompt_lengths(questions: list[str], tokenizer: PromptEncoder | TextTokenizer) -> list[int]:
    if isinstance(tokenizer, PromptEncoder):
        return [len(tokenizer.encode_prompt(question)) for question in questions]
    prompts = [render_prompt("instructions", question) for question in questions]
    return [len(token_ids) for token_ids in tokenizer(prompts)["input_ids"]]
