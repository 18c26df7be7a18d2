"""What lives in main memory between its uses computes the same, and is back there afterwards."""

import copy

import pytest
import torch
from torch import nn

from stepsearch.config import load_config
from stepsearch.errors import ConfigError
from stepsearch.training.offload import keep_state_in_main_memory, lent

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")),
]


def steps(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    device = next(network.parameters()).device
    for number in range(3):
        optimizer.zero_grad()
        network(torch.full((2, 4), float(number), device=device)).square().sum().backward()
        optimizer.step()
    return [parameter.detach().cpu() for parameter in network.parameters()]


@pytest.mark.parametrize("device", DEVICES)
def test_an_optimiser_takes_the_same_steps_with_its_state_in_main_memory(device: str) -> None:
    torch.manual_seed(0)
    one = nn.Linear(4, 3).to(device)
    other = copy.deepcopy(one)
    plain = torch.optim.AdamW(one.parameters(), lr=0.1)
    offloaded = torch.optim.AdamW(other.parameters(), lr=0.1)
    keep_state_in_main_memory(offloaded)
    assert all(map(torch.equal, steps(one, plain), steps(other, offloaded)))
    moments = [state[name] for state in offloaded.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert len(moments) == 4
    assert {moment.device.type for moment in moments} == {"cpu"}
    # A resumed run goes on from such a state.
    offloaded.load_state_dict(offloaded.state_dict())
    assert all(map(torch.equal, steps(one, plain), steps(other, offloaded)))


@pytest.mark.parametrize("device", DEVICES)
def test_a_lent_network_is_read_there_and_is_home_again(device: str) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval().requires_grad_(False)
    home = [tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())]
    expected = network(torch.ones(2, 4))

    def read() -> torch.Tensor:
        with lent(network, torch.device(device)):
            return network(torch.ones(2, 4, device=device))

    torch.testing.assert_close(read().cpu(), expected)
    with pytest.raises(ValueError, match="stop"), lent(network, torch.device(device)):
        raise ValueError("stop")
    assert [tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())] == home
    with lent(None, torch.device(device)):
        pass


def test_a_reference_that_is_the_frozen_trunk_cannot_leave() -> None:
    with pytest.raises(ConfigError, match=r"training\.offload=all: with lora\.rank=8"):
        load_config(None, ["lora.rank=8", "training.offload=all"])
    assert load_config(None, ["lora.rank=8", "training.offload=optimizer"])
    with pytest.raises(ConfigError, match=r"training\.offload=optimizer: set it to none"):
        load_config(None, ["training.parallel=fsdp", "training.offload=optimizer"])
