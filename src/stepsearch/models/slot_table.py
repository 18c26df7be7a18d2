"""What an engine knows of the segment in each slot, one array per fact, so that a step touches all rows at once."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stepsearch.models.sampling import SamplingRows
from stepsearch.rollout.generation import Sampling
from stepsearch.rollout.seeding import token_noise


@dataclass(slots=True)
class SlotTable:
    """All arrays are [slots], but for `token_ids` and `logprobs`, which are [slots, longest segment].

    Attributes:
        decoding: a segment is being sampled.
        seeds, temperature, top_p, top_k, limit: of its `Sampling`.
        position: absolute position of the next token.
        count: tokens sampled so far.
        last_token: the latest of them, which the model has not read.
        stop_state: of the stop automaton.
        token_ids, logprobs: what was sampled.
    """

    decoding: NDArray[np.bool_]
    seeds: NDArray[np.uint64]
    temperature: NDArray[np.float32]
    top_p: NDArray[np.float32]
    top_k: NDArray[np.int64]
    limit: NDArray[np.int64]
    position: NDArray[np.int64]
    count: NDArray[np.int64]
    last_token: NDArray[np.int64]
    stop_state: NDArray[np.int64]
    token_ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]

    @classmethod
    def empty(cls, slots: int) -> "SlotTable":
        """Return a table in which nothing is sampled."""
        top_k, limit, position, count, last_token, stop_state = np.zeros((6, slots), dtype=np.int64)
        return cls(
            decoding=np.zeros(slots, dtype=np.bool_),
            seeds=np.zeros(slots, dtype=np.uint64),
            temperature=np.ones(slots, dtype=np.float32),
            top_p=np.ones(slots, dtype=np.float32),
            top_k=top_k,
            limit=limit,
            position=position,
            count=count,
            last_token=last_token,
            stop_state=stop_state,
            token_ids=np.zeros((slots, 0), dtype=np.int64),
            logprobs=np.zeros((slots, 0), dtype=np.float32),
        )

    def begin(self, slot: int, sampling: Sampling, position: int, stop_state: int) -> None:
        """Start a segment whose first token has that absolute position."""
        self.decoding[slot] = True
        self.seeds[slot] = sampling.seed & ((1 << 64) - 1)
        self.temperature[slot], self.top_p[slot], self.top_k[slot] = (
            sampling.temperature,
            sampling.top_p,
            sampling.top_k,
        )
        self.limit[slot], self.position[slot], self.count[slot] = sampling.max_tokens, position, 0
        self.stop_state[slot] = stop_state
        missing = sampling.max_tokens - self.token_ids.shape[1]
        if missing > 0:
            self.token_ids = np.pad(self.token_ids, ((0, 0), (0, missing)))
            self.logprobs = np.pad(self.logprobs, ((0, 0), (0, missing)))

    def sampling_rows(self, slots: NDArray[np.int64], device: torch.device) -> SamplingRows:
        """Return how the next token of each of these slots is sampled."""
        top_p, top_k = self.top_p[slots], self.top_k[slots]
        return SamplingRows(
            noise=torch.from_numpy(token_noise(self.seeds[slots], self.position[slots])).to(device, torch.float32),
            temperature=torch.from_numpy(self.temperature[slots]).to(device),
            top_p=torch.from_numpy(top_p).to(device) if (top_p < 1).any() else None,
            top_k=torch.from_numpy(top_k).to(device) if (top_k > 0).any() else None,
        )

    def record(self, slots: NDArray[np.int64], token_ids: NDArray[np.int64], logprobs: NDArray[np.float32]) -> None:
        """Note one sampled token in each of these slots."""
        self.token_ids[slots, self.count[slots]] = token_ids
        self.logprobs[slots, self.count[slots]] = logprobs
        self.last_token[slots] = token_ids
        self.count[slots] += 1
        self.position[slots] += 1
