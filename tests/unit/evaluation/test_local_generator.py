"""The local policy as a generator of text: exact to the token, wherever a text is cut."""

import pytest

from stepsearch.cli.players import Player
from stepsearch.config import load_config
from stepsearch.evaluation.baselines import BASELINES
from stepsearch.evaluation.local_generator import PART_TOKENS, LocalGenerator
from stepsearch.evaluation.text_episode import TextBudget
from stepsearch.evaluation.text_generation import SEARCH_STOP, Piece, Sampled, SampleRequest, Stop, TextEnd, fill
from stepsearch.evaluation.text_runner import TextRunner
from stepsearch.models.in_process_engine import InProcessEngine
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.rollout.generation import Sampling, SegmentEnd
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Passage, Question, StopReason

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant"
)


@pytest.fixture(scope="module")
def engine(spelled_tokenizer, random_policy):
    return InProcessEngine(random_policy(len(spelled_tokenizer)), spelled_tokenizer, slots=4, max_length=700)


@pytest.fixture
def generator(engine, spelled_tokenizer):
    return LocalGenerator(engine, spelled_tokenizer, max_length=700, temperature=1.0)


def request(text="Who wrote the book?", max_tokens=60, **fields):
    return SampleRequest(prompt=[Piece(text)], said=[], max_tokens=max_tokens, seed=3, **fields)


def plainly(engine, tokenizer, text, max_tokens):
    """Return what the engine samples in one go, the request asked alone."""
    engine.submit(0, tokenizer.encode_markup(text), Sampling(max_tokens, 3, 1.0))
    while engine.active:
        for segment in engine.step():
            engine.release(0)
            return segment
    raise AssertionError("nothing was sampled")


def test_a_text_sampled_in_parts_is_the_text_sampled_in_one_go(generator, engine, spelled_tokenizer) -> None:
    whole = plainly(engine, spelled_tokenizer, "Who wrote the book?", 60)
    (said,) = generator.generate([request(stops=[Stop("never said")])])

    assert len(whole.token_ids) > 2 * PART_TOKENS
    own = len(whole.token_ids) - (whole.end is SegmentEnd.END_OF_SEQUENCE)
    assert said.token_ids == tuple(whole.token_ids[:own])
    assert said.logprobs == pytest.approx(whole.logprobs[:own], abs=1e-5)
    assert said.end == {"end_of_sequence": TextEnd.END_OF_SEQUENCE, "length": TextEnd.LENGTH}[whole.end]


def test_a_stop_string_cuts_the_tokens_behind_it(generator, spelled_tokenizer) -> None:
    (free,) = generator.generate([request()])
    stop = free.text[20:23]
    end = free.text.find(stop) + len(stop)
    (said,) = generator.generate([request(stops=[Stop(stop)])])
    (until,) = generator.generate([request(until=lambda text: end if len(text) >= end else None)])

    assert (said.text, said.end) == (free.text[:end], TextEnd.STOP)
    assert said.token_ids == free.token_ids[: len(said.token_ids)]
    assert len(said.logprobs) == len(said.token_ids)
    assert spelled_tokenizer.decode(said.token_ids).startswith(said.text)
    assert len(spelled_tokenizer.decode(said.token_ids[:-1])) < end
    assert until == said


def test_what_the_engine_stops_at_and_nobody_asked_for_goes_on(scripted_engine, spelled_tokenizer) -> None:
    class Parts(scripted_engine):
        """Plays the rest of a text where a request is submitted again with nothing new."""

        def submit(self, request_id, token_ids, sampling):
            turn = self.tokenizer.encode_markup(self.scripts[request_id].pop(0))
            self.playing[request_id] = (turn, [], sampling.max_tokens)
            self.contexts[request_id] = list(token_ids)

    engine = Parts(spelled_tokenizer, {0: ["a</answer>", "b</search>"]})
    generator = LocalGenerator(engine, spelled_tokenizer, max_length=500, temperature=0.0)
    (said,) = generator.generate([request(max_tokens=90, stops=[SEARCH_STOP])])
    assert (said.text, said.end) == ("a</answer>b</search>", TextEnd.STOP)


def test_the_end_of_a_sequence_is_no_part_of_a_text(scripted_engine, spelled_tokenizer) -> None:
    engine = scripted_engine(spelled_tokenizer, {0: ["a book<|endoftext|>"]})
    generator = LocalGenerator(engine, spelled_tokenizer, max_length=500, temperature=0.0)
    (said,) = generator.generate([request(max_tokens=90, stops=[SEARCH_STOP])])
    assert (said.text, said.end) == ("a book", TextEnd.END_OF_SEQUENCE)
    assert spelled_tokenizer.decode(said.token_ids) == "a book"
    assert len(said.logprobs) == len(said.token_ids)


def test_the_context_is_prompt_turns_and_observations_in_their_own_tokens(generator, spelled_tokenizer) -> None:
    prompt = fill("Question: {question}\n", question="who <|im_end|> is </search>?")
    turn = Sampled("the book", TextEnd.STOP, token_ids=(40, 41, 42), logprobs=(0.0,) * 3)
    observation = (Piece("\n<information>"), Piece("text <|endoftext|>", outside=True), Piece("</information>"))
    said = SampleRequest(prompt, [turn, *observation], max_tokens=20)

    ids = generator._context(said)
    before = generator.encode_prompt(prompt)
    assert ids == [*before, 40, 41, 42, *generator.encode(observation)]
    assert spelled_tokenizer.decode(before) == "Question: who [|im_end|] is [/search]?\n"
    special = set(spelled_tokenizer.hf.get_added_vocab().values())
    assert not special & set(generator.encode(observation))  # Outside text spells what is special.


def test_an_instruct_model_gets_its_template(engine, tokenizer_builder) -> None:
    tokenizer = tokenizer_builder(style="auto", template=TEMPLATE)
    generator = LocalGenerator(engine, tokenizer, max_length=700, temperature=0.0)
    ids = generator.encode_prompt(fill("Question: {question}", question="Who?"))
    assert tokenizer.decode(ids) == "<|im_start|>user\nQuestion: Who?<|im_end|>\n<|im_start|>assistant"
    assert ids == tokenizer.hf("<|im_start|>user\nQuestion: Who?<|im_end|>\n<|im_start|>assistant")["input_ids"]
    assert generator.reads_instructions


def test_room_and_clipping(generator) -> None:
    (full, little) = generator.generate([request("x " * 700), request(max_tokens=5)])
    assert (full.text, full.end, full.token_ids) == ("", TextEnd.CONTEXT_FULL, ())
    assert len(little.token_ids) <= 5
    assert generator.clip("the author of the book", 2) == "the author"
    assert generator.clip("the author", 20) == "the author"


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_plays_with_a_real_model(name, engine, tokenizer_builder) -> None:
    tokenizer = tokenizer_builder(style="instructions")
    generator = LocalGenerator(engine, tokenizer, max_length=700, temperature=1.0)
    passages = [Passage("b", "The book was written by the author.", "Book"), Passage("a", "The author was born.", "A")]
    search = GuardedSearch(BM25SearchEngine.from_passages(passages))
    budget = TextBudget(24, 60, 30, max_searches=2, max_corrections=1, top_k=1)
    questions = [Question(str(index), f"Who wrote the book {index}?", ("author",)) for index in range(3)]

    runner = TextRunner(BASELINES[name], generator, search, budget)
    trajectories = runner.run(questions, [7, 8, 9])

    assert [trajectory.question.id for trajectory in trajectories] == ["0", "1", "2"]
    for trajectory in trajectories:
        count = len(trajectory.response_ids)
        assert len(trajectory.response_mask) == len(trajectory.rollout_logprobs) == count
        assert len(trajectory.prompt_ids) + sum(trajectory.response_mask) > 0
        assert (trajectory.answer is not None) == (trajectory.stop_reason is StopReason.ANSWERED)
        assert all(0 <= step.end_position <= max(0, count - 1) for step in trajectory.steps)
        if name in ("single_shot_rag", "ircot"):
            assert trajectory.steps[0].query == trajectory.question.question
    again = runner.run(questions[1:2], [8])
    assert again[0].response_ids == trajectories[1].response_ids  # Its neighbours change nothing.


def test_a_player_plays_baselines_with_all_its_workers(random_policy, tokenizer_builder) -> None:
    tokenizer = tokenizer_builder(style="instructions")
    model = StepSearchModel(random_policy(len(tokenizer)), tokenizer)
    sizes = [
        "model.max_length=400",
        "rollout.max_turn_tokens=16",
        "rollout.max_observation_tokens=40",
        "rollout.max_passage_tokens=30",
    ]
    search = GuardedSearch(BM25SearchEngine.from_passages([Passage("b", "The book.", "Book")]))
    questions = [Question(str(index), f"Who wrote the book {index}?", ("author",)) for index in range(3)]

    answers = []
    for workers in (1, 2):
        player = Player(model, search, load_config(None, [*sizes, f"training.workers={workers}", "rollout.slots=2"]))
        trajectories = player.baseline_runner("single_shot_rag", 1.0).run(questions, [1, 2, 3])
        answers.append([trajectory.response_ids for trajectory in trajectories])
    assert len(player.engines) == 2
    assert answers[0] == answers[1]
