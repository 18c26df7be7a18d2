"""From a finished episode to its rewards: what the answer, the queries and each search step are worth."""

import math
from collections.abc import Sequence

from stepsearch.config import RewardSettings
from stepsearch.errors import TrainingError
from stepsearch.matching.stop_words import ENGLISH_STOP_WORDS
from stepsearch.matching.tfidf import NO_STOP_WORDS, golden_terms
from stepsearch.rewards.golden_recall import golden_recall
from stepsearch.rewards.information_gain import information_gain
from stepsearch.rewards.recipes import RECIPES
from stepsearch.types import Passage, StepReward, Trajectory, TrajectoryReward

STOP_WORDS = {"none": NO_STOP_WORDS, "english": ENGLISH_STOP_WORDS}


class StepSearchRewardCalculator:
    """Computes the rewards of episodes. No state is kept between calls.

    A subclass may override `compute_step_reward`; the rest stays as configured.

    Example:
        class CustomRewardCalculator(StepSearchRewardCalculator):
            def compute_step_reward(self, retrieved_docs, golden_docs, history, episode_id, step):
                return 1.0 if set(retrieved_docs) & set(golden_docs) else 0.0
    """

    def __init__(self, settings: RewardSettings | None = None) -> None:
        self.settings = settings or RewardSettings()
        self._recipe = RECIPES[self.settings.recipe]
        self._stop_words = STOP_WORDS[self.settings.stop_words]

    def compute_step_reward(
        self,
        retrieved_docs: Sequence[str],
        golden_docs: Sequence[str],
        history: Sequence[Sequence[str]],
        episode_id: str,
        step: int,
    ) -> float:
        """Return the reward of one search step before `step_scale`: information gain minus redundancy penalty.

        Called for every step that did not fail. Questions without golden documents have no step rewards, unless a
        subclass overrides this method: it is then called for them too.

        Args:
            retrieved_docs: texts of the step's documents, best first; here two are the same when their texts are equal.
            golden_docs: texts of the question's golden documents; empty where it has none.
            history: for each earlier step the texts it retrieved (none where the search failed).
            episode_id: the question's id.
            step: index of the step in the episode, from 0.
        """
        searches = [[Passage(id=text, text=text) for text in texts] for texts in (*history, retrieved_docs)]
        return self._step_reward(*self._step_parts(searches, golden_docs)[-1])

    def score_batch(self, trajectories: Sequence[Trajectory]) -> list[TrajectoryReward]:
        """Return the reward of each trajectory."""
        return [self.score(trajectory) for trajectory in trajectories]

    def score(self, trajectory: Trajectory) -> TrajectoryReward:
        """Return all rewards of one episode.

        r = r_answer + gamma_key * r_key is the outcome; a wrong format sets it to the recipe's value.

        Raises:
            TrainingError: an overridden `compute_step_reward` returned no finite number.
        """
        question, settings, recipe = trajectory.question, self.settings, self._recipe
        wrong_format = trajectory.format_error in recipe.wrong_formats
        answer = recipe.answer(trajectory.answer, question.answers)
        search_key = self._search_key(trajectory, wrong_format)
        outcome = answer * settings.answer + settings.gamma_key * (search_key or 0.0) * settings.search_key
        measurable = bool(question.golden_passages) or self._is_customised()
        has_steps = measurable and (recipe.wrong_format_keeps_steps or not wrong_format)
        return TrajectoryReward(
            outcome=recipe.wrong_format_outcome if wrong_format else outcome,
            answer=answer,
            search_key=search_key,
            steps=self._step_rewards(trajectory) if has_steps else None,
            golden_recall=golden_recall(question.golden_passages, trajectory.steps),
        )

    def _search_key(self, trajectory: Trajectory, wrong_format: bool) -> float | None:
        references = [sub_question.search_queries for sub_question in trajectory.question.sub_questions]
        if not any(references):
            return None
        if wrong_format:
            return 0.0
        return self._recipe.search_key([step.query for step in trajectory.steps], references)

    def _step_rewards(self, trajectory: Trajectory) -> tuple[StepReward, ...]:
        golden_texts = [passage.text for passage in trajectory.question.golden_passages]
        searches = [() if step.failed else step.passages for step in trajectory.steps]
        parts = self._step_parts(searches, golden_texts)
        rewards: list[StepReward] = []
        for index, (step, (gain, penalty)) in enumerate(zip(trajectory.steps, parts, strict=True)):
            if step.failed:
                reward = 0.0
            elif self._is_customised():
                reward = self._customised_reward(searches, golden_texts, trajectory.question.id, index)
            else:
                reward = self._step_reward(gain, penalty)
            rewards.append(StepReward(self.settings.step_scale * reward, gain, penalty))
        return tuple(rewards)

    def _step_parts(
        self, searches: Sequence[Sequence[Passage]], golden_texts: Sequence[str]
    ) -> list[tuple[float, float]]:
        """Return information gain and redundancy penalty of each step, whether they are switched on or not."""
        golden = golden_terms(tuple(map(self._recipe.read_golden, golden_texts)), self._stop_words)
        memory = [0.0] * len(golden_texts)
        earlier: list[Passage] = []
        parts: list[tuple[float, float]] = []
        for search in searches:
            documents = self._recipe.read_documents(search)
            gain, memory = information_gain(memory, [golden.cosines(document.text) for document in documents])
            penalty = self._recipe.redundancy(documents, earlier, golden, self.settings.redundancy_threshold)
            parts.append((gain, penalty))
            earlier += documents
        return parts

    def _step_reward(self, gain: float, penalty: float) -> float:
        return gain * self.settings.information_gain - penalty * self.settings.redundancy_penalty

    def _is_customised(self) -> bool:
        return type(self).compute_step_reward is not StepSearchRewardCalculator.compute_step_reward

    def _customised_reward(
        self, searches: Sequence[Sequence[Passage]], golden_texts: Sequence[str], episode_id: str, step: int
    ) -> float:
        *history, retrieved = [[passage.text for passage in search] for search in searches[: step + 1]]
        returned = self.compute_step_reward(retrieved, list(golden_texts), history, episode_id, step)
        try:
            reward = float(returned)
        except (TypeError, ValueError):
            reward = math.nan
        if not math.isfinite(reward):
            raise TrainingError(
                f"{type(self).__name__}.compute_step_reward returned {returned!r} for step {step} of episode "
                f"'{episode_id}': it must return a finite number"
            )
        return reward
