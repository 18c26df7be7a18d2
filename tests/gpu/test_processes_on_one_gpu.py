"""Processes that share one GPU, and one that exchanges with itself over NCCL. Run there: `pytest tests/gpu`."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu_process_runs import exchange_over_nccl, train_toy_on_one_gpu
from process_runs import UNEVEN, assert_same_gradients, run_in_processes

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.filterwarnings("default"),
]
TWO_STEPS = {**UNEVEN, "training.max_steps": 2, "training.value_warmup_steps": 0}


def test_two_processes_on_one_gpu_compute_what_one_does(tmp_path: Path) -> None:
    """By DDP: what FSDP2 exchanges, gloo cannot where it is on a GPU."""
    (expected,) = run_in_processes(1, train_toy_on_one_gpu, tmp_path / "alone", TWO_STEPS)
    for gradients in run_in_processes(2, train_toy_on_one_gpu, tmp_path / "both", TWO_STEPS):
        assert_same_gradients(gradients, expected)


def test_what_processes_exchange_goes_over_nccl() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (found,) = run_in_processes(1, exchange_over_nccl, port)
    expected = {name: values for name, values in found.items() if name.endswith(" expected")}
    assert len(expected) > 10
    for name, values in expected.items():
        np.testing.assert_allclose(found[name.removesuffix(" expected")], values, rtol=1e-5, atol=1e-5)
