"""The StepSearch loop over text, for a model whose tokens are not known: the same prompt, grammar and observations.

It decides as `rollout.Episode` does.
"""

from stepsearch.evaluation.baselines.documents import step_search_document
from stepsearch.evaluation.text_episode import Play, TextEpisode, reason_of
from stepsearch.evaluation.text_generation import ANSWER_STOP, SEARCH_STOP, Piece, Sampled, TextEnd, fill
from stepsearch.protocol import (
    CORRECTION,
    INFORMATION_PREFIX,
    INFORMATION_SUFFIX,
    NO_SEARCH_LEFT,
    PROMPTS,
    Answer,
    Search,
    parse_turn,
)
from stepsearch.search.guarded_search import SearchOutcome
from stepsearch.types import StopReason


def step_search(episode: TextEpisode) -> Play:
    """Think, search and answer until there is an answer or a budget is spent."""
    prompt = fill(PROMPTS["instructions"], question=episode.question)
    said: list[Piece | Sampled] = []
    turns: list[str] = []
    while True:
        sampled = yield from episode.sample(prompt, said, stops=(SEARCH_STOP, ANSWER_STOP))
        said.append(sampled)
        turns.append(sampled.text)
        action = parse_turn(sampled.text)
        if isinstance(action, Answer):
            return episode.finish(StopReason.ANSWERED, action.text, turns)
        if isinstance(action, Search):
            if not episode.searches_left:
                return episode.finish(StopReason.SEARCHES_SPENT, None, turns)
            said += _observation(episode, (yield from episode.search(action.query)))
        elif _may_be_corrected(episode, sampled):
            said += episode.correct(Piece(CORRECTION))
        else:
            return episode.finish(reason_of(sampled), None, turns)


def _observation(episode: TextEpisode, outcome: SearchOutcome) -> tuple[Piece, ...]:
    """Return what the model is shown of a search."""
    found = Piece(episode.documents(outcome, step_search_document), outside=True)
    last = () if episode.searches_left else (Piece(NO_SEARCH_LEFT),)
    return episode.observe(Piece(INFORMATION_PREFIX), found, Piece(INFORMATION_SUFFIX), *last)


def _may_be_corrected(episode: TextEpisode, sampled: Sampled) -> bool:
    over = sampled.end in (TextEnd.END_OF_SEQUENCE, TextEnd.CONTEXT_FULL, TextEnd.NO_REPLY)
    return not over and episode.searches_left > 0 and episode.corrections < episode.budget.max_corrections
