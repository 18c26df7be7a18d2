"""An agent loop for verl that plays StepSearch's episodes and rewards every search step (docs/verl.md).

verl lives in an environment of its own; no other module imports it.
"""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false, reportUntypedClassDecorator=false

import asyncio
import json
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import uuid4

import torch
from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.utils.profiler import simple_timer

from stepsearch.data.records import Record
from stepsearch.data.verl_rows import AGENT, question_from_row
from stepsearch.errors import ConfigError, TrainingError
from stepsearch.evaluation.metrics import score_answer
from stepsearch.integrations.verl.settings import check_response_length
from stepsearch.integrations.verl.worker_parts import worker_parts
from stepsearch.protocol import STOP_TAGS
from stepsearch.rewards import StepSearchRewardCalculator, token_level_scores
from stepsearch.rollout.episode import Episode
from stepsearch.rollout.generation import Segment
from stepsearch.rollout.segments import outside_segment
from stepsearch.types import Trajectory, TrajectoryReward


class StepSearchOutput(AgentLoopOutput):
    """An episode with a score on each of its tokens, where verl's own has one number for the last.

    Attributes:
        token_level_scores: [R] one for each response token.
    """

    token_level_scores: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Return what verl's trainer is given of the episode."""
        fields = super().as_dict()
        fields["rm_scores"] = torch.tensor(fields.pop("token_level_scores"), dtype=torch.float32)
        return fields


@dataclass(frozen=True, slots=True)
class _Generation:
    """How the turns of one episode are sampled: verl's parameters, and notes of the seconds and weights it took."""

    sampling_params: dict[str, Any]
    request: str = field(default_factory=lambda: uuid4().hex)
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    versions: list[int] = field(default_factory=list[int])


@register(AGENT)
class StepSearchAgentLoop(AgentLoopBase):
    """Plays one episode: verl's engine samples; the rules, the search and the rewards are StepSearch's.

    A subclass with another `calculator`, registered under a name of its own, trains on other rewards.
    """

    calculator: type[StepSearchRewardCalculator] = StepSearchRewardCalculator

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = OmegaConf.to_container(OmegaConf.create(self.config.get("stepsearch") or {}), resolve=True)
        model = self.config.actor_rollout_ref.model.path
        self._parts = worker_parts(json.dumps(settings), model, self.tokenizer, self.calculator)
        check_response_length(self.rollout_config.response_length, self._parts.config.rollout)

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> StepSearchOutput:
        """Play and reward the episode of one row of the data.

        Raises:
            StepSearchError: the row asks nothing, its prompt is too long, or verl would lose the rewards of steps.
        """
        # Only the worker that hands on rewards as `as_dict` has them numbers the episodes of a question.
        if "session_id" not in row:
            raise ConfigError(
                "this trainer of verl puts all of an episode's reward on its last token: start verl.trainer.main_ppo "
                "with trainer.use_v1=True"
            )
        question, sizes = question_from_row(Record(row, f"row {row.get('index')} of the data")), self.rollout_config
        longest = sizes.get("max_model_len")
        episode = self._parts.episode(question, sizes.prompt_length, sizes.response_length, longest)
        generation = _Generation(sampling_params)
        trajectory = await self._play(episode, generation)
        with simple_timer("compute_score", generation.seconds):
            reward = await asyncio.to_thread(self._parts.calculator.score, trajectory)
        return self._output(trajectory, reward, generation)

    async def _play(self, episode: Episode, generation: _Generation) -> Trajectory:
        while episode.trajectory is None:
            if episode.query is None:
                with simple_timer("generate_sequences", generation.seconds):
                    segment = await self._sample(episode, generation)
                episode.take_turn(segment)
            else:
                with simple_timer("tool_calls", generation.seconds):
                    outcome = await self._parts.search.search(episode.query)
                [observation] = self._parts.observations.build([outcome])
                episode.take_documents(outcome.passages, outcome.failed, observation)
        return episode.trajectory

    async def _sample(self, episode: Episode, generation: _Generation) -> Segment:
        """Return the next turn.

        Raises:
            TrainingError: the engine gave up in the middle of it.
        """
        limit, tokenizer = episode.turn_tokens, self._parts.tokenizer
        output = await self.server_manager.generate(
            request_id=generation.request,
            prompt_ids=list(episode.context_ids),
            sampling_params={**generation.sampling_params, "stop": list(STOP_TAGS), "max_tokens": limit},
        )
        ids = output.token_ids
        if output.stop_reason == "aborted" or not ids:
            raise TrainingError("the engine gave up in the middle of a turn: the episode is left out")
        versions = [output.extra_fields.get(name) for name in ("min_global_steps", "max_global_steps")]
        generation.versions.extend(version for version in versions if version is not None)
        logprobs = output.log_probs or [0.0] * len(ids)
        return outside_segment(ids, logprobs, max_tokens=limit, tokenizer=tokenizer, eos_ids=tokenizer.eos_ids)

    def _output(self, trajectory: Trajectory, reward: TrajectoryReward, generation: _Generation) -> StepSearchOutput:
        em, f1 = score_answer(trajectory.question, trajectory.answer)
        figures = {"acc": em, "f1": f1, "searches": len(trajectory.steps), "format": trajectory.format_error is None}
        figures |= {} if reward.golden_recall is None else {"golden_recall": reward.golden_recall}
        logprobs, scores = list(trajectory.rollout_logprobs), token_level_scores(trajectory, reward)
        return StepSearchOutput(
            prompt_ids=list(trajectory.prompt_ids),
            response_ids=list(trajectory.response_ids),
            response_mask=list(trajectory.response_mask),
            response_logprobs=logprobs if self.rollout_config.calculate_log_probs else None,
            token_level_scores=scores,
            reward_score=sum(scores),  # without a number verl would score the episode itself
            num_turns=1 + sum(1 for _ in groupby(trajectory.response_mask)),  # the prompt, then each by turns
            metrics=AgentLoopMetrics(**generation.seconds),
            extra_fields={
                "reward_extra_info": {name: float(figure) for name, figure in figures.items()},
                "min_global_steps": min(generation.versions, default=None),
                "max_global_steps": max(generation.versions, default=None),
                "turn_scores": [],
                "tool_rewards": [],
            },
        )
