import threading
import time

import pytest

from stepsearch.config import RolloutSettings
from stepsearch.errors import DataError
from stepsearch.rollout import EpisodeEvent, RolloutRunner, episode_seed
from stepsearch.search import SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Passage, Question, StopReason

SETTINGS = RolloutSettings(max_turn_tokens=80, max_observation_tokens=100, max_passage_tokens=40)
BOOK, AUTHOR = Passage("b", "the book"), Passage("a", "the author")
DOCUMENTS = {"book": [BOOK], "author": [AUTHOR, BOOK]}


def questions(count):
    return [Question(str(index), f"Who wrote the book {index}?", ("x",)) for index in range(count)]


def runner(engine, tokenizer, search, settings=SETTINGS, **limits):
    sizes = {"max_length": 500, "max_search_steps": 2, "search_top_k": 2, **limits}
    return RolloutRunner(engine, tokenizer, GuardedSearch(search, retries=0), settings, **sizes)


def play(engine, tokenizer, search, count, on_event=None, **options):
    seeds = [episode_seed(7, index) for index in range(count)]
    return runner(engine, tokenizer, search, **options).run(questions(count), seeds, on_event)


SCRIPTS = {
    0: ["<search>book</search>", "<search>author</search>", "<answer>Paris</answer>"],
    1: ["hm<|endoftext|>"],
    2: ["<search>author</search>", "<answer>Rome</answer>"],
    3: ["<search>book</search>", "<search>book</search>", "<search>book</search>"],
    4: ["</answer>", "</answer>", "</answer>"],
}


def test_every_way_to_end(spelled_tokenizer, scripted_engine, shelf):
    engine = scripted_engine(spelled_tokenizer, SCRIPTS)

    trajectories = play(engine, spelled_tokenizer, shelf(DOCUMENTS), 5)

    assert [trajectory.stop_reason for trajectory in trajectories] == [
        StopReason.ANSWERED,
        StopReason.END_OF_SEQUENCE,
        StopReason.ANSWERED,
        StopReason.SEARCHES_SPENT,
        StopReason.NO_VALID_ACTION,
    ]
    assert [len(trajectory.steps) for trajectory in trajectories] == [2, 0, 1, 2, 0]
    assert trajectories[0].steps[1].passages == (AUTHOR, BOOK)
    assert [trajectory.question.id for trajectory in trajectories] == ["0", "1", "2", "3", "4"]
    assert not engine.contexts


def test_the_context_can_be_full(spelled_tokenizer, scripted_engine, shelf):
    long = shelf({"book": ["word " * 100] * 3})
    engine = scripted_engine(spelled_tokenizer, {0: ["<search>book</search>"] * 3})

    (trajectory,) = play(engine, spelled_tokenizer, long, 1, max_length=250, max_search_steps=5)

    assert trajectory.stop_reason is StopReason.CONTEXT_FULL
    assert len(trajectory.steps) == 3
    assert len(trajectory.prompt_ids) + len(trajectory.response_ids) <= 250
    first, second, third = (sampling.max_tokens for sampling in engine.samplings[0])
    assert first == second == 80
    assert third == 250 - len(trajectory.prompt_ids) - len(trajectory.response_ids) + sum(trajectory.response_mask) // 3


def test_positions_are_exact_whether_tags_are_tokens_or_spelled(
    spelled_tokenizer, tagged_tokenizer, scripted_engine, shelf
):
    for tokenizer in (spelled_tokenizer, tagged_tokenizer):
        (trajectory, *_) = play(scripted_engine(tokenizer, SCRIPTS), tokenizer, shelf(DOCUMENTS), 5)

        turns = ["<search>book</search>", "<search>author</search>"]
        for step, turn in zip(trajectory.steps, turns, strict=True):
            before = tokenizer.decode(trajectory.response_ids[: step.end_position])
            until = tokenizer.decode(trajectory.response_ids[: step.end_position + 1])
            assert until.endswith(turn)
            assert not before.endswith("</search>")
            assert trajectory.response_mask[step.end_position] == 1
            assert trajectory.response_mask[step.end_position + 1] == 0


def test_queries_that_are_asked_together_go_to_the_search_together(spelled_tokenizer, scripted_engine, shelf):
    search = shelf(DOCUMENTS)
    engine = scripted_engine(
        spelled_tokenizer, {index: ["<search>book</search>", "<answer>x</answer>"] for index in range(4)}
    )

    play(engine, spelled_tokenizer, search, 4)

    assert search.asked == [["book"]]  # asked once, by the guard, for all four


class SlowShelf(SearchEngine):
    """Takes its time, a different one for each query."""

    def __init__(self, seconds):
        self.seconds = seconds

    def search(self, query, top_k=3):
        time.sleep(self.seconds)
        return DOCUMENTS[query]


def mixed_scripts():
    return {
        index: ["x" * (index + 1) + f"<search>{('book', 'author')[index % 2]}</search>", "<answer>x</answer>"]
        for index in range(6)
    }


def submissions(tokenizer, engine_class, seconds, window):
    """Return at which engine step each request was submitted, in order."""
    engine = engine_class(tokenizer, mixed_scripts())
    log = []
    submit = engine.submit
    engine.submit = lambda request, ids, sampling: (log.append((engine.steps, request)), submit(request, ids, sampling))
    play(engine, tokenizer, SlowShelf(seconds), 6, settings=SETTINGS.model_copy(update={"search_window": window}))
    return log


@pytest.mark.parametrize("window", [0, 3])
def test_how_long_the_search_takes_changes_nothing(spelled_tokenizer, scripted_engine, window):
    quick = submissions(spelled_tokenizer, scripted_engine, 0.0, window)
    slow = submissions(spelled_tokenizer, scripted_engine, 0.02, window)

    assert quick == slow
    first_asked = min(step for step, _ in quick[6:])
    turn = len(spelled_tokenizer.encode_markup("x<search>book</search>"))
    assert first_asked == turn + window


def test_events_tell_the_story_in_order(spelled_tokenizer, scripted_engine, shelf):
    events: list[EpisodeEvent] = []
    engine = scripted_engine(spelled_tokenizer, {0: ["<search>book</search>", "<answer>x</answer>"]})

    trajectories = play(engine, spelled_tokenizer, shelf(DOCUMENTS), 1, events.append)

    assert [event.kind for event in events] == ["turn", "documents", "turn", "finished"]
    assert events[0].text == "<search>book</search>"
    assert events[1].passages == (BOOK,)
    assert events[3].trajectory is trajectories[0]


def test_an_engine_fault_marks_the_step_failed_and_the_episode_goes_on(spelled_tokenizer, scripted_engine):
    class Broken(SearchEngine):
        def search(self, query, top_k=3):
            raise RuntimeError("down")

    engine = scripted_engine(spelled_tokenizer, {0: ["<search>book</search>", "<answer>x</answer>"]})

    (trajectory,) = play(engine, spelled_tokenizer, Broken(), 1)

    assert trajectory.steps[0].failed
    assert "The search failed." in trajectory.response_text
    assert trajectory.stop_reason is StopReason.ANSWERED


def test_an_interrupt_leaves_no_thread_and_nothing_held(spelled_tokenizer, scripted_engine):
    engine = scripted_engine(spelled_tokenizer, mixed_scripts())
    before = set(threading.enumerate())

    def interrupt(event):
        if event.kind == "documents":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(engine, spelled_tokenizer, SlowShelf(0.01), 6, interrupt)

    assert set(threading.enumerate()) == before
    assert not engine.contexts


def test_no_questions_no_trajectories(spelled_tokenizer, scripted_engine, shelf):
    assert play(scripted_engine(spelled_tokenizer, {}), spelled_tokenizer, shelf({}), 0) == []


def test_a_prompt_that_does_not_fit_is_refused_by_name(spelled_tokenizer, scripted_engine, shelf):
    one = runner(scripted_engine(spelled_tokenizer, {}), spelled_tokenizer, shelf({}), max_length=200)

    with pytest.raises(DataError, match=r"question 'big': its prompt of \d+ tokens does not fit model.max_length=200"):
        one.run([Question("big", "why " * 200, ("x",))], [0])


def test_each_question_needs_a_seed(spelled_tokenizer, scripted_engine, shelf):
    with pytest.raises(ValueError, match="1 questions came with 0 seeds"):
        runner(scripted_engine(spelled_tokenizer, {}), spelled_tokenizer, shelf({})).run(questions(1), [])
