"""What the method is compared with: the same model without it, on the same corpus, and the published numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stepsearch.evaluation.metrics import mean, score_answer, wilson_interval
from stepsearch.protocol import ANSWER, NO_SEARCH_LEFT, SEARCH, Answer, closing, neutralise, opening, parse_turn
from stepsearch.rollout.generation import EpisodeTokenizer, GenerationEngine, Sampling
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.types import Question


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """EM and F1 of one baseline over `count` questions, with EM's 95 % interval."""

    em: float
    f1: float
    count: int
    em_interval: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Baselines:
    """Answers questions with the policy itself, in one turn: the episode's own markup, but no search of its choosing.

    Args:
        engine: samples the answers.
        tokenizer: the policy's.
        search: the engine that the policy searches with.
        observations: renders what it finds, as in an episode.
        top_k: documents per question.
        max_tokens: budget of the turn.
        max_length: tokens that context and turn may have together.
        temperature: 0 is greedy.
    """

    engine: GenerationEngine
    tokenizer: EpisodeTokenizer
    search: GuardedSearch
    observations: ObservationBuilder
    top_k: int
    max_tokens: int
    max_length: int
    temperature: float = 0.0

    def direct(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[str | None]:
        """Return the answers without any search."""
        no_search = self.tokenizer.encode_markup(NO_SEARCH_LEFT)
        prompts = self.tokenizer.encode_prompts([question.question for question in questions])
        return self._answers([prompt + no_search for prompt in prompts], seeds)

    def single_shot(self, questions: Sequence[Question], seeds: Sequence[int]) -> list[str | None]:
        """Return the answers after one search with the question itself as the query (plain retrieval-augmented)."""
        outcomes = self.search.search_batch([question.question for question in questions], self.top_k)
        before, after, no_search = (
            self.tokenizer.encode_markup(text) for text in (opening(SEARCH), closing(SEARCH), NO_SEARCH_LEFT)
        )
        prompts = self.tokenizer.encode_prompts([question.question for question in questions])
        queries = self.tokenizer.encode_plain([neutralise(question.question) for question in questions])
        found = self.observations.build(outcomes)
        contexts = [
            prompt + before + query + after + observation + no_search
            for prompt, query, observation in zip(prompts, queries, found, strict=True)
        ]
        return self._answers(contexts, seeds)

    def _answers(self, contexts: Sequence[list[int]], seeds: Sequence[int]) -> list[str | None]:
        """Return what each context is answered with; a turn that does not answer is continued inside an answer tag."""
        turns = self._sample(contexts, seeds)
        actions = [parse_turn(self.tokenizer.decode(turn)) for turn in turns]
        open_ones = [index for index, action in enumerate(actions) if not isinstance(action, Answer)]
        start = self.tokenizer.encode_markup(opening(ANSWER))
        forced = self._sample([contexts[i] + turns[i] + start for i in open_ones], [seeds[i] for i in open_ones])
        for index, turn in zip(open_ones, forced, strict=True):
            actions[index] = parse_turn(opening(ANSWER) + self.tokenizer.decode(turn))
        return [action.text if isinstance(action, Answer) else None for action in actions]

    def _sample(self, contexts: Sequence[list[int]], seeds: Sequence[int]) -> list[list[int]]:
        """Return the ids sampled after each context until a tag closes; none where the context leaves no room."""
        for index, (context, seed) in enumerate(zip(contexts, seeds, strict=True)):
            room = min(self.max_tokens, self.max_length - len(context))
            if room > 0:
                self.engine.submit(index, context, Sampling(room, seed, self.temperature))
        sampled: dict[int, list[int]] = {}
        while self.engine.active:
            for segment in self.engine.step():
                sampled[segment.request_id] = segment.token_ids
                self.engine.release(segment.request_id)
        return [sampled.get(index, []) for index in range(len(contexts))]


def measure_baselines(
    baselines: Baselines, questions: Sequence[Question], seeds: Sequence[int], batch_size: int
) -> dict[str, BaselineResult]:
    """Return the result of each baseline over at least one question, keyed `direct` and `single_shot`."""
    ways: Mapping[str, Callable[[Sequence[Question], Sequence[int]], list[str | None]]] = {
        "direct": baselines.direct,
        "single_shot": baselines.single_shot,
    }
    results: dict[str, BaselineResult] = {}
    for name, answer in ways.items():
        answers: list[str | None] = []
        for start in range(0, len(questions), batch_size):
            answers += answer(questions[start : start + batch_size], seeds[start : start + batch_size])
        results[name] = _measure_answers(questions, answers)
    return results


def _measure_answers(questions: Sequence[Question], answers: Sequence[str | None]) -> BaselineResult:
    scores = [score_answer(question, answer) for question, answer in zip(questions, answers, strict=True)]
    em = mean(em for em, _ in scores)
    return BaselineResult(em, mean(f1 for _, f1 in scores), len(scores), wilson_interval(em, len(scores)))


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """One row of the paper's table: EM and F1 in percent per dataset. Compare a variant with the same variant only."""

    method: str
    model: str
    scores: Mapping[str, tuple[float, float]]


PUBLISHED_SETTING = "published over the full benchmarks: Wiki-18 corpus, E5 retriever, top-3 (arXiv 2505.15107)"


def _published(method: str, model: str, *scores: tuple[float, float]) -> PublishedResult:
    return PublishedResult(method, model, dict(zip(("hotpotqa", "2wiki", "musique", "bamboogle"), scores, strict=True)))


PUBLISHED = (
    _published("Search-R1", "3B base", (27.2, 36.1), (24.8, 29.6), (8.1, 14.6), (17.6, 27.0)),
    _published("StepSearch", "3B base", (32.9, 43.4), (33.9, 39.5), (18.1, 27.3), (32.8, 41.9)),
    _published("Search-R1", "3B instruct", (30.4, 40.1), (29.3, 35.2), (12.0, 18.8), (24.0, 34.4)),
    _published("StepSearch", "3B instruct", (34.5, 45.2), (32.0, 38.5), (17.4, 26.1), (34.4, 45.2)),
    _published("Search-R1", "7B base", (43.2, 54.7), (35.0, 41.1), (20.6, 29.0), (43.0, 54.5)),
    _published("StepSearch", "7B base", (38.0, 49.3), (38.5, 45.0), (21.6, 32.4), (46.7, 57.3)),
)
