import pytest
import torch

from stepsearch.config import load_config
from stepsearch.errors import ConfigError
from stepsearch.training.networks import start_accelerator


def test_a_process_may_train_in_one_precision_after_the_other() -> None:
    kinds = ["no", "bf16", "no"]
    assert [start_accelerator(kind, torch.device("cpu")).mixed_precision for kind in kinds] == kinds


def test_a_precision_that_the_machine_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.mixed_precision=fp5 is not possible here"):
        start_accelerator("fp5", torch.device("cpu"))


def test_a_precision_that_would_need_a_loss_scaler_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.mixed_precision: input should be 'no' or 'bf16', got 'fp16'"):
        load_config(None, ["training.mixed_precision=fp16"])
