"""What holds for every episode, whatever the policy says and the documents contain."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepsearch.config import RolloutSettings
from stepsearch.protocol import NO_SEARCH_LEFT, TAGS, Search, parse_turn
from stepsearch.rollout import RolloutRunner
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Passage, Question, StopReason, Trajectory

MAX_LENGTH = 420
SETTINGS = RolloutSettings(max_turn_tokens=60, max_observation_tokens=120, max_passage_tokens=70, search_window=1)
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

fragments = st.sampled_from(
    [*TAGS, "<|endoftext|>", "<|im_end|>", "< / Search >", "<search", "</", ">", "book", " é", "\n"]
)
texts = st.lists(fragments | st.text(max_size=6), max_size=12).map("".join)
passages = st.lists(st.builds(Passage, id=st.uuids().map(str), text=texts, title=texts), max_size=3)
turns = st.sampled_from(
    [
        "<search>book</search>",
        "<think>so</think><search>author</search>",
        "<answer>Paris</answer>",
        "hm </search>",
        "<search></search>",
        "the author wrote the book<|endoftext|>",
        "<answer><search>book</search>",
    ]
)
scripts = st.lists(turns, min_size=7, max_size=7)


def play(tokenizer, engine_class, shelf, script, documents) -> Trajectory:
    engine = engine_class(tokenizer, {0: script})
    search = GuardedSearch(shelf({"book": documents, "author": documents}))
    runner = RolloutRunner(
        engine, tokenizer, search, SETTINGS, max_length=MAX_LENGTH, max_search_steps=3, search_top_k=3
    )
    (trajectory,) = runner.run([Question("q", "Who?", ("x",))], [3])
    return trajectory


def sampled_turns(tokenizer, trajectory) -> list[str]:
    """Return the text of each run of sampled tokens."""
    runs: list[list[int]] = []
    before = 0
    for token, sampled in zip(trajectory.response_ids, trajectory.response_mask, strict=True):
        if sampled:
            if not before:
                runs.append([])
            runs[-1].append(token)
        before = sampled
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize("name", ["spelled_tokenizer", "tagged_tokenizer"])
class TestEpisodes:
    @quick
    @given(script=scripts, documents=passages)
    def test_token_facts_agree(self, request, name, scripted_engine, shelf, script, documents):
        tokenizer = request.getfixturevalue(name)

        trajectory = play(tokenizer, scripted_engine, shelf, script, documents)

        count = len(trajectory.response_ids)
        assert count == len(trajectory.response_mask) == len(trajectory.rollout_logprobs)
        assert len(trajectory.prompt_ids) + count <= MAX_LENGTH
        for sampled, logprob in zip(trajectory.response_mask, trajectory.rollout_logprobs, strict=True):
            assert logprob == (-0.5 if sampled else 0.0)
        ends = [step.end_position for step in trajectory.steps]
        assert ends == sorted(set(ends))
        assert all(trajectory.response_mask[end] == 1 for end in ends)
        assert Trajectory.from_json(trajectory.to_json()) == trajectory

    @quick
    @given(script=scripts, documents=passages)
    def test_documents_never_change_the_actions(self, request, name, scripted_engine, shelf, script, documents):
        tokenizer = request.getfixturevalue(name)

        trajectory = play(tokenizer, scripted_engine, shelf, script, documents)

        played = sampled_turns(tokenizer, trajectory)
        assert played == script[: len(played)]
        searches = [action.query for action in map(parse_turn, played) if isinstance(action, Search)]
        spent = trajectory.stop_reason is StopReason.SEARCHES_SPENT
        assert [step.query for step in trajectory.steps] == (searches[:-1] if spent else searches)

    @quick
    @given(script=scripts, documents=passages)
    def test_a_result_is_one_information_block(self, request, name, scripted_engine, shelf, script, documents):
        tokenizer = request.getfixturevalue(name)

        trajectory = play(tokenizer, scripted_engine, shelf, script, documents)

        special = set(tokenizer.hf.get_added_vocab().values()) if name == "spelled_tokenizer" else tokenizer.eos_ids
        for step in trajectory.steps:
            start = end = step.end_position + 1
            while end < len(trajectory.response_mask) and not trajectory.response_mask[end]:
                end += 1
            observed = trajectory.response_ids[start:end]
            assert special.isdisjoint(observed)
            text = tokenizer.decode(observed).removesuffix(NO_SEARCH_LEFT)
            if not observed:
                assert trajectory.stop_reason is StopReason.CONTEXT_FULL
                continue
            assert text.startswith("\n<information>")
            assert text.endswith("</information>\n")
            assert sum(text.count(tag) for tag in TAGS) == 2
            assert len(observed) <= SETTINGS.max_observation_tokens + len(tokenizer.encode_markup(NO_SEARCH_LEFT))
