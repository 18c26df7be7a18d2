"""What the episodes of one of verl's agent-loop workers share: tokenizer, search and rewards, built once."""

import json
from dataclasses import dataclass
from functools import cache

from transformers import PreTrainedTokenizerBase

from stepsearch.config import Config
from stepsearch.errors import DataError
from stepsearch.integrations.verl.settings import episode_config
from stepsearch.models.model_folder import read_record
from stepsearch.models.tokenization import ModelTokenizer
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.rollout.budget import EpisodeBudget
from stepsearch.rollout.episode import EnvironmentText, Episode
from stepsearch.rollout.observation import ObservationBuilder
from stepsearch.search import build_search_engine
from stepsearch.search.gathered_search import GatheredSearch
from stepsearch.search.guarded_search import guard
from stepsearch.types import Question


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """The parts, and the settings that they were built from."""

    config: Config
    tokenizer: ModelTokenizer
    environment: EnvironmentText
    observations: ObservationBuilder
    search: GatheredSearch
    calculator: StepSearchRewardCalculator

    def episode(self, question: Question, prompt_length: int, response_length: int, max_length: int | None) -> Episode:
        """Return an episode that has yet to begin.

        Args:
            question: what is asked.
            prompt_length: tokens that its prompt may have.
            response_length: tokens that may follow.
            max_length: tokens of both together; None where the engine has no limit of its own.

        Raises:
            DataError: the prompt is too long.
        """
        prompt_ids = self.tokenizer.encode_prompt(question.question)
        if len(prompt_ids) > prompt_length:
            raise DataError(
                f"question {question.id!r}: its prompt of {len(prompt_ids)} tokens does not fit "
                f"data.max_prompt_length={prompt_length}: raise it"
            )
        longest, rollout = len(prompt_ids) + response_length, self.config.rollout
        budget = EpisodeBudget(
            max_length=min(longest, max_length or longest),
            max_turn_tokens=rollout.max_turn_tokens,
            max_search_steps=self.config.reward.max_search_steps,
            max_corrections=rollout.max_corrections,
        )
        return Episode(question, prompt_ids, self.tokenizer, self.environment, budget)


@cache
def worker_parts(
    settings: str, model: str, hf_tokenizer: PreTrainedTokenizerBase, calculator: type[StepSearchRewardCalculator]
) -> WorkerParts:
    """Return the parts of this process.

    Args:
        settings: what stands under `stepsearch` in verl's config, as JSON.
        model: folder or hub name of the policy.
        hf_tokenizer: the policy's.
        calculator: class of what rewards the episodes.

    Raises:
        StepSearchError: a setting is wrong, or the search engine cannot be built or reached.
    """
    config = episode_config(json.loads(settings))
    style = read_record(model).get("prompt", "auto") if config.model.prompt == "auto" else config.model.prompt
    tokenizer, rollout, search = ModelTokenizer(hf_tokenizer, style), config.rollout, config.search
    return WorkerParts(
        config=config,
        tokenizer=tokenizer,
        environment=EnvironmentText.encode(tokenizer),
        observations=ObservationBuilder(tokenizer, rollout.max_observation_tokens, rollout.max_passage_tokens),
        search=GatheredSearch(guard(build_search_engine(search), search), search.top_k),
        calculator=calculator(config.reward),
    )
