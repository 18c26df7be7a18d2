import pytest

from stepsearch.rollout.generation import SegmentEnd
from stepsearch.rollout.segments import outside_segment


@pytest.mark.parametrize(
    ("sampled", "kept", "room", "end"),
    [
        ("a<search>b</search>", "a<search>b</search>", 9, SegmentEnd.STOP_TAG),
        # What an engine that guesses several tokens ahead samples past the tag was never asked for.
        ("a<search>b</search>hm<answer>c</answer>", "a<search>b</search>", 0, SegmentEnd.STOP_TAG),
        ("<answer>b</answer>", "<answer>b</answer>", 0, SegmentEnd.STOP_TAG),
        ("hm<|endoftext|>", "hm<|endoftext|>", 0, SegmentEnd.END_OF_SEQUENCE),
        # It ended by itself, at an id that only the engine knows to end a sequence.
        ("hm<|im_end|>", "hm<|im_end|>", 1, SegmentEnd.END_OF_SEQUENCE),
        ("hm<search>", "hm<search>", 0, SegmentEnd.LENGTH),
    ],
)
def test_what_was_sampled_and_how_it_ended(spelled_tokenizer, sampled, kept, room, end):
    ids = spelled_tokenizer.encode_markup(sampled)
    logprobs = [-float(place) for place in range(len(ids))]

    segment = outside_segment(
        ids,
        logprobs,
        max_tokens=len(ids) + room,
        tokenizer=spelled_tokenizer,
        eos_ids=spelled_tokenizer.eos_ids,
    )

    assert spelled_tokenizer.decode(segment.token_ids) == kept
    assert segment.logprobs == logprobs[: len(segment.token_ids)]
    assert segment.end is end


def test_a_tag_that_closes_inside_a_token_keeps_that_token(tokenizer_builder):
    tokenizer = tokenizer_builder(["</search>."])
    ids = tokenizer.encode_markup("<search>b</search>.hm")

    segment = outside_segment(ids, [0.0] * len(ids), max_tokens=99, tokenizer=tokenizer, eos_ids=tokenizer.eos_ids)

    assert tokenizer.decode(segment.token_ids) == "<search>b</search>."
