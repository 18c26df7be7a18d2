"""Networks of which every process keeps a share of each weight, its gradient and its optimiser's state (FSDP2).

A pass gathers the weights of one layer after the other and lets go of them again; outside of passes no process holds
more than its share.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from stepsearch.models.tensor_shares import share_of


def shard(network: nn.Module, device: torch.device) -> None:
    """Let every process keep a share of the network, in place; its parameters are others afterwards.

    Args:
        network: takes `input_ids` and a `response_mask`; the same in every process, and whole.
        device: where it is.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    layers = [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
    # The innermost first: a module takes what those inside it have left.
    for module in (*reversed(layers), network):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    # The first that runs is taken for the whole network, and an engine may call a layer by itself.
    nothing = torch.zeros((1, 2), dtype=torch.long, device=device)
    with torch.no_grad():
        network(nothing, nothing)


@contextmanager
def whole(network: nn.Module) -> Generator[None]:
    """Let every process hold all weights of the network while the block runs; they must not change in it."""
    parts = [module for module in network.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
        if isinstance(network, FSDPModule):
            # Forgets, too, which layers ran by themselves: that is not the same in every process.
            network.reset_iter_state()


def gathered(state: Any, keep: bool) -> Any:
    """Return a state, nested mappings of tensors and other values, with whole tensors where there were shares.

    Every process has to take part.

    Args:
        state: of networks and optimisers.
        keep: False leaves gathered tensors out of it, in processes that do not need them.
    """
    if isinstance(state, DTensor):
        tensor = state.full_tensor()
        return tensor.cpu() if keep else None
    if isinstance(state, Mapping):
        return {key: gathered(value, keep) for key, value in cast(Mapping[Any, Any], state).items()}
    return state


def shares_of_network(state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return a network's whole state as one that it can load, whatever it keeps of it."""
    now = network.state_dict()
    return {name: share_of(tensor, now[name]) if name in now else tensor for name, tensor in state.items()}


def shares_of_optimizer(state: Mapping[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """Return an optimiser's whole state as one that it can load, whatever it keeps of its parameters."""

    def share(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, Tensor):
            return value
        # A copy: the optimiser keeps what it loads, and a part of a tensor, or of a file, holds on to all of it.
        return (share_of(value, parameter) if value.shape == parameter.shape else value).clone()

    per_parameter = {
        place: {name: share(value, parameters[place]) for name, value in values.items()}
        for place, values in state["state"].items()
    }
    return {**state, "state": per_parameter}
