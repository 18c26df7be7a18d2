"""From what an engine outside sampled to a segment, whatever it says of how it ended."""

from bisect import bisect_left
from collections.abc import Collection, Sequence

from stepsearch.protocol import STOP_TAGS
from stepsearch.rollout.generation import EpisodeTokenizer, Segment, SegmentEnd


def outside_segment(
    token_ids: Sequence[int],
    logprobs: Sequence[float],
    *,
    max_tokens: int,
    tokenizer: EpisodeTokenizer,
    eos_ids: Collection[int],
) -> Segment:
    """Return sampled tokens as one segment, cut where a stop tag closes.

    An engine that samples several tokens at once may have gone on after the tag. One that stopped before `max_tokens`
    without a tag met an end-of-sequence token, whichever those of its own are.

    Args:
        token_ids: at least one.
        logprobs: one for each token.
        max_tokens: as it was asked for.
        tokenizer: the policy's.
        eos_ids: ids that end a sequence.
    """

    def is_closed(count: int) -> bool:
        text = tokenizer.decode(token_ids[:count])
        return any(tag in text for tag in STOP_TAGS)

    # Once closed, a text stays closed: the shortest one is found by bisection.
    length = bisect_left(range(len(token_ids) + 1), True, key=is_closed)
    if length <= len(token_ids):
        end = SegmentEnd.STOP_TAG
    elif len(token_ids) < max_tokens or token_ids[-1] in eos_ids:
        end = SegmentEnd.END_OF_SEQUENCE
    else:
        end = SegmentEnd.LENGTH
    return Segment(0, list(token_ids[:length]), list(logprobs[:length]), end)
