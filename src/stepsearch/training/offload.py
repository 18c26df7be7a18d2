"""What an accelerator need not hold all the time, kept in main memory meanwhile. On a CPU nothing moves."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stepsearch.config import TrainingSettings

MAIN_MEMORY = torch.device("cpu")


def is_offloaded(settings: TrainingSettings, part: Literal["optimizer", "reference"]) -> bool:
    """Return whether `training.offload` keeps that part in main memory."""
    return settings.offload in (part, "all")


def keep_state_in_main_memory(optimizer: Optimizer) -> None:
    """Let an optimiser's state be beside its parameters during its steps alone."""

    def fetch(optimizer: Optimizer, *_: Any) -> None:
        _move_state(optimizer, lambda parameter: parameter.device)

    def store(optimizer: Optimizer, *_: Any) -> None:
        _move_state(optimizer, lambda parameter: MAIN_MEMORY)

    optimizer.register_step_pre_hook(fetch)
    optimizer.register_step_post_hook(store)


def _move_state(optimizer: Optimizer, where: Callable[[Tensor], torch.device]) -> None:
    """Move what is as large as its parameter; counts of steps stay where the optimiser has put them."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim():
                state[name] = value.to(where(parameter))


@contextmanager
def lent(network: nn.Module | None, device: torch.device) -> Generator[None]:
    """Let a network that lives elsewhere be on `device` while the block runs; its weights do not change there."""
    tensors = [] if network is None else [*network.parameters(), *network.buffers()]
    home = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(device)
        yield
    finally:
        for tensor, data in zip(tensors, home, strict=True):
            tensor.data = data
