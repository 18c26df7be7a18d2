"""An implementation of attention that cannot be had is named by its key, and other failures are not blamed on it."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from stepsearch.config import ModelSettings
from stepsearch.errors import ConfigError, ModelError
from stepsearch.models import StepSearchModel
from stepsearch.models.tiny import tiny_config
from stepsearch.models.untrained import untrained_policy


@pytest.fixture
def folder(policy: StepSearchModel, tmp_path: Path) -> Path:
    policy.save(tmp_path / "model", {})
    return tmp_path / "model"


def test_an_unknown_attention_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.attention=nonsense cannot be had here .*model\.attention=auto"):
        StepSearchModel.load(ModelSettings(name=str(folder), attention="nonsense"))
    with pytest.raises(ConfigError, match=r"model\.attention=nonsense"):
        untrained_policy(tiny_config(), ModelSettings(attention="nonsense"))


@pytest.mark.skipif(find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_a_missing_package_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.attention=flash_attention_2 .*FlashAttention2.*: flash-attn\)"):
        StepSearchModel.load(ModelSettings(name=str(folder), attention="flash_attention_2"))


def test_what_is_wrong_with_the_weights_is_not_blamed_on_attention(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded, a file is missing"):
        StepSearchModel.load(ModelSettings(name=str(folder), attention="eager"))
