"""What processes of a test do on one GPU."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from process_runs import train_toy
from torch import Tensor
from torch.distributed.tensor import DTensor
from toy_run import toy_policy

from stepsearch.models.rollout_copy import RolloutCopy
from stepsearch.models.tensor_shares import whole_tensor
from stepsearch.training.processes import ProcessGroup
from stepsearch.training.sharding import shard

DEVICE = torch.device("cuda")


def train_toy_on_one_gpu(folder: Path, overrides: Mapping[str, object]) -> list[list[float]]:
    """Train the toy policy, all processes on the first GPU; NCCL allows one process on each, gloo any number."""
    if "RANK" in os.environ:
        os.environ.update(LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
        dist.init_process_group("gloo")
    return train_toy(folder, overrides, device="cuda")


def exchange_over_nccl(port: int) -> dict[str, NDArray[np.float32]]:
    """Do over NCCL, in one process, what several do; return what came of it and what was expected, by what it is.

    Sums, maxima and objects go through NCCL. Of FSDP2 this shows that it holds a network on a GPU; alone it exchanges
    nothing.
    """
    torch.cuda.set_device(0)
    dist.init_process_group("nccl", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    among, x = ProcessGroup(), torch.arange(3.0, device=DEVICE)
    assert among.gather({"a": [1]}) == [{"a": [1]}]
    assert among.share_out([1, 2, 3], lambda numbers: [10 * number for number in numbers]) == [10, 20, 30]
    found: dict[str, Tensor] = {"sum": among.sum(x), "sum expected": x, "max": among.max(x), "max expected": x}

    plain, policy = (toy_policy(0).to(DEVICE) for _ in range(2))
    copy = RolloutCopy(policy)
    shard(policy, DEVICE)
    assert all(isinstance(parameter, DTensor) for parameter in policy.parameters())
    ids = torch.arange(3, 19, device=DEVICE).view(2, 8)
    for kind, network in {"": policy, " expected": plain}.items():
        network.zero_grad()
        network(ids, torch.ones_like(ids)).logprobs.sum().backward()
        for name, parameter in network.causal_lm.named_parameters():
            assert parameter.grad is not None
            found[f"gradient of {name}{kind}"] = whole_tensor(parameter.grad)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.mul_(2)
    copy.sync()
    for name, weight in plain.causal_lm.named_parameters():
        found[f"copy of {name}"] = copy.causal_lm.state_dict()[name]
        found[f"copy of {name} expected"] = (2 * weight).bfloat16()
    dist.destroy_process_group()
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in found.items()}
