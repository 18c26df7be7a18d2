import pytest

from stepsearch.protocol import CORRECTION, NO_SEARCH_LEFT
from stepsearch.rollout.budget import EpisodeBudget
from stepsearch.rollout.episode import EnvironmentText, Episode
from stepsearch.rollout.generation import Segment, SegmentEnd
from stepsearch.types import FormatError, Passage, Question, StopReason

QUESTION = Question("q", "Who?", ("x",))
PASSAGE = Passage("p", "text")
SEARCH = "<think>a</think><search>the author</search>"
ANSWER = "<answer>Paris</answer>"


class Table:
    """Plays an episode by hand."""

    def __init__(self, tokenizer, **budget):
        self.tokenizer = tokenizer
        sizes = {"max_length": 400, "max_turn_tokens": 60, "max_search_steps": 2, "max_corrections": 2, **budget}
        environment = EnvironmentText.encode(tokenizer)
        self.prompt = tokenizer.encode_prompt("Who?")
        self.episode = Episode(QUESTION, self.prompt, tokenizer, environment, EpisodeBudget(**sizes))

    def say(self, text, end=SegmentEnd.STOP_TAG):
        ids = self.tokenizer.encode_markup(text)
        self.episode.take_turn(Segment(0, ids, [-1.0] * len(ids), end))

    def find(self, observation="found", failed=False):
        self.episode.take_documents([PASSAGE], failed, self.tokenizer.encode_markup(observation))

    @property
    def text(self):
        return self.tokenizer.decode(self.episode.context_ids[len(self.prompt) :])

    @property
    def outcome(self):
        return self.episode.trajectory and self.episode.trajectory.stop_reason


def test_search_then_answer(spelled_tokenizer):
    table = Table(spelled_tokenizer)

    table.say(SEARCH)
    assert table.episode.query == "the author"
    table.find("[found]")
    assert table.episode.query is None
    table.say(ANSWER)

    trajectory = table.episode.trajectory
    assert trajectory.stop_reason is StopReason.ANSWERED
    assert trajectory.answer == "Paris"
    assert trajectory.format_error is None
    assert trajectory.response_text == SEARCH + "[found]" + ANSWER
    assert trajectory.steps[0].end_position == len(spelled_tokenizer.encode_markup(SEARCH)) - 1


def test_what_the_last_token_carries_past_the_answer_is_a_format_error(spelled_tokenizer):
    table = Table(spelled_tokenizer)

    table.say(SEARCH)
    table.find()
    table.say(ANSWER + " so")

    assert table.episode.trajectory.answer == "Paris"
    assert table.episode.trajectory.format_error is FormatError.TEXT_AFTER_ANSWER


def test_end_of_sequence_ends_it(spelled_tokenizer):
    table = Table(spelled_tokenizer)

    table.say("hm<|endoftext|>", SegmentEnd.END_OF_SEQUENCE)

    assert table.outcome is StopReason.END_OF_SEQUENCE
    assert table.episode.trajectory.format_error is FormatError.NO_ANSWER


def test_two_corrections_then_no_more(spelled_tokenizer):
    table = Table(spelled_tokenizer)

    for _ in range(2):
        table.say("hm", SegmentEnd.LENGTH)
        assert table.outcome is None
    table.say("a</search>")

    assert table.text == "hm" + CORRECTION + "hm" + CORRECTION + "a</search>"
    assert table.outcome is StopReason.NO_VALID_ACTION
    assert table.episode.trajectory.corrections == 2
    assert table.episode.trajectory.steps == ()


def test_the_last_search_says_so_and_one_turn_is_left(spelled_tokenizer):
    table = Table(spelled_tokenizer)

    table.say(SEARCH)
    table.find("[found]")
    assert not table.text.endswith(NO_SEARCH_LEFT)
    table.say(SEARCH)
    table.find("[found]")
    assert table.text.endswith("[found]" + NO_SEARCH_LEFT)
    table.say(SEARCH)

    assert table.outcome is StopReason.SEARCHES_SPENT
    assert len(table.episode.trajectory.steps) == 2


def test_after_the_last_search_nothing_is_corrected(spelled_tokenizer):
    table = Table(spelled_tokenizer, max_search_steps=1)

    table.say(SEARCH)
    table.find()
    table.say("hm", SegmentEnd.LENGTH)

    assert table.outcome is StopReason.NO_VALID_ACTION
    assert table.episode.trajectory.corrections == 0


def test_a_failed_search_is_a_step(spelled_tokenizer):
    table = Table(spelled_tokenizer)

    table.say(SEARCH)
    table.find(failed=True)
    table.say(ANSWER)

    assert table.episode.trajectory.steps[0].failed
    assert table.episode.trajectory.format_error is None


def test_a_result_that_leaves_no_room_for_a_turn_ends_it(spelled_tokenizer):
    observation = "x" * 50
    used = len(spelled_tokenizer.encode_prompt("Who?") + spelled_tokenizer.encode_markup(SEARCH))
    room = used + len(spelled_tokenizer.encode_markup(observation)) + 16

    fits, too_long = Table(spelled_tokenizer, max_length=room), Table(spelled_tokenizer, max_length=room - 1)
    for table in (fits, too_long):
        table.say(SEARCH)
        table.find(observation)

    assert fits.outcome is None
    assert fits.episode.turn_tokens == 16
    assert too_long.outcome is StopReason.CONTEXT_FULL
    assert too_long.text == SEARCH
    assert too_long.episode.trajectory.steps[0].passages == (PASSAGE,)


@pytest.mark.parametrize("corrections", [0, 2])
def test_a_turn_cut_off_by_the_context_ends_it(spelled_tokenizer, corrections):
    prompt = len(spelled_tokenizer.encode_prompt("Who?"))
    table = Table(spelled_tokenizer, max_length=prompt + 20, max_corrections=corrections)
    turn = spelled_tokenizer.decode(spelled_tokenizer.encode_markup("the author wrote the book and " * 5)[:20])

    table.say(turn, SegmentEnd.LENGTH)

    assert table.outcome is StopReason.CONTEXT_FULL


def test_a_correction_that_does_not_fit_ends_it(spelled_tokenizer):
    prompt = len(spelled_tokenizer.encode_prompt("Who?"))
    table = Table(spelled_tokenizer, max_length=prompt + 30)

    table.say("hm", SegmentEnd.LENGTH)

    assert table.outcome is StopReason.CONTEXT_FULL
    assert table.text == "hm"


def test_a_tag_closed_by_the_last_budget_token_counts(spelled_tokenizer):
    table = Table(spelled_tokenizer)

    table.say(SEARCH, SegmentEnd.LENGTH)

    assert table.episode.query == "the author"


def test_documents_that_nobody_asked_for_are_refused(spelled_tokenizer):
    with pytest.raises(ValueError, match="asked for none"):
        Table(spelled_tokenizer).find()
