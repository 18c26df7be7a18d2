"""The processes of one training run, and what they tell each other.

Every process holds the whole batch of a step. What takes time is shared out: episodes, their rewards, and the passes
through the networks.
"""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor

from stepsearch.errors import ConfigError, ProcessLostError, StepSearchError

Item = TypeVar("Item")
Result = TypeVar("Result")

# For how long a process waits for another: longer than the slowest share of a rollout, or a warm start, takes.
PATIENCE = timedelta(hours=2)
# What gloo says, which has no exception of its own, when the process at the other end is gone.
_GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")


class Processes:
    """A run in one process: everything is its own, and nobody has to be asked.

    Attributes:
        rank: which of the processes this one is, from 0.
        count: how many there are.
    """

    rank = 0
    count = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks to people."""
        return self.rank == 0

    def gather(self, value: Item) -> list[Item]:
        """Return what each process has for `value`, in the order of their ranks."""
        return [value]

    def sum(self, x: Tensor) -> Tensor:
        """Return `x` summed over the processes."""
        return x

    def max(self, x: Tensor) -> Tensor:
        """Return the largest `x` of any process, element by element."""
        return x

    def share_out(self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
        """Return what `work` makes of the items, each process having done a part of them, or none.

        Raises:
            StepSearchError: the work of one process failed; every process raises what the first of them did.
        """
        return list(work(items))

    @contextmanager
    def together(self) -> Generator[None]:
        """Say so, in an error for the user, if another process is gone while the block runs."""
        yield


class ProcessGroup(Processes):
    """Several processes that torch.distributed connects; all of them call the same methods in the same order."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def gather(self, value: Item) -> list[Item]:
        """Return what each process has for `value`, in the order of their ranks."""
        values: list[Item] = [value] * self.count
        dist.all_gather_object(values, value)
        return values

    def sum(self, x: Tensor) -> Tensor:
        """Return `x` summed over the processes."""
        return self._reduce(x, dist.ReduceOp.SUM)

    def max(self, x: Tensor) -> Tensor:
        """Return the largest `x` of any process, element by element."""
        return self._reduce(x, dist.ReduceOp.MAX)

    def share_out(self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
        """Return what `work` makes of the items, each process having done a part of them, or none.

        Neighbours stay together.

        Raises:
            StepSearchError: the work of one process failed; every process raises what the first of them did.
        """
        start, end = (len(items) * rank // self.count for rank in (self.rank, self.rank + 1))
        try:
            done = list(work(items[start:end]))
        except StepSearchError as error:
            done = error
        results: list[Result] = []
        for share in self.gather(done):
            if isinstance(share, StepSearchError):
                raise share
            results += share
        return results

    @contextmanager
    def together(self) -> Generator[None]:
        """Say so, in an error for the user, if another process is gone while the block runs.

        Raises:
            ProcessLostError: another process is gone, or does not answer any more.
        """
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and not any(sign in str(error) for sign in _GONE):
                raise
            raise ProcessLostError(
                f"process {self.rank} of {self.count} has lost another one, which was killed or has failed (its own "
                "message says why, where it left one): go on from the last checkpoint by --resume"
            ) from None

    def _reduce(self, x: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        reduced = x.detach().clone()
        dist.all_reduce(reduced, operation)
        return reduced


def launched_processes() -> int:
    """Return among how many processes this one was started, by whatever launcher."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1


def refuse_processes(command: str) -> None:
    """Refuse to do in several processes what one has to do.

    Raises:
        ConfigError: this one was started among several.
    """
    count = launched_processes()
    if count > 1:
        raise ConfigError(
            f"stepsearch {command} was started in {count} processes, and runs in one: start it without accelerate "
            "launch or torchrun; stepsearch train is what several can do"
        )


def join_processes(device_type: str | None = None) -> Processes:
    """Return the processes among which this one was started, connected; safe to call again.

    `stepsearch train --num-processes`, `accelerate launch` and `torchrun` tell them of each other in environment
    variables.

    Args:
        device_type: what they compute on; default: a GPU each where there is one, else the CPU.

    Raises:
        ConfigError: there are more processes than GPUs.
    """
    count = launched_processes()
    if count == 1:
        return Processes()
    if dist.is_initialized():
        return ProcessGroup()
    on_cpu = not torch.cuda.is_available() if device_type is None else device_type == "cpu"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    if not on_cpu and here > torch.cuda.device_count():
        raise ConfigError(
            f"{here} processes were started, and this machine has {torch.cuda.device_count()} GPUs: start one for each"
        )
    PartialState(cpu=on_cpu, timeout=PATIENCE)
    return ProcessGroup()


def leave_processes() -> None:
    """Disconnect from the other processes, if there are any."""
    if dist.is_initialized():
        PartialState().destroy_process_group()
