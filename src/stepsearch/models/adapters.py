"""LoRA (Hu et al. 2021): policy and critic as two adapters on a frozen trunk, which with both off is the reference."""

import re
import warnings
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from stepsearch.config import LoraSettings
from stepsearch.errors import ConfigError, one_line

ACTOR, CRITIC = "actor", "critic"
ADAPTER_FOLDER = "adapter"
ALL_LINEAR = "all-linear"
_LINEAR = (nn.Linear, Conv1D)


class Adapters:
    """The adapters in a model's layers; outside of `active` the actor's is on.

    Which one is on is a state of the model: its readers take turns, in one thread.

    Args:
        causal_lm: has them.
        lora_config: peft's settings of each.
    """

    def __init__(self, causal_lm: PreTrainedModel, lora_config: Any) -> None:
        from peft.tuners.lora import LoraLayer

        self._layers: dict[str, Any] = {
            name: module for name, module in causal_lm.named_modules() if isinstance(module, LoraLayer)
        }
        self._config = lora_config
        self._device_type = causal_lm.device.type
        self._on: str | None = None
        self._switch(ACTOR)

    @contextmanager
    def active(self, name: str | None) -> Generator[None]:
        """Let one adapter be on, and learn, while the block runs; None: none is, and the trunk is as it was loaded."""
        before = self._on
        self._switch(name)
        # Autocast sees to the types; peft would first write every input out in the adapter's float32.
        self._let_peft_cast(not torch.is_autocast_enabled(self._device_type))
        try:
            yield
        finally:
            self._let_peft_cast(True)
            self._switch(before)

    def merged(self, causal_lm: PreTrainedModel) -> Generator[tuple[str, Tensor]]:
        """Yield each weight, under the name it had without adapters, with the actor's adapter worked in."""
        # A layer wraps the weight of a linear one, or a parameter that holds those of all experts.
        layers = {
            _without_adapters(f"{name}.{getattr(layer, 'parameter_name', 'weight')}"): layer
            for name, layer in self._layers.items()
        }
        for name, weight in causal_lm.state_dict().items():
            if ".lora_" in name:
                continue
            plain = _without_adapters(name)
            if plain in layers:
                weight = weight + layers[plain].get_delta_weight(ACTOR).to(weight.dtype)
            yield plain, weight

    def save(self, folder: Path, base: str) -> None:
        """Write the actor's adapter as peft does, to be loaded onto `base`."""
        folder.mkdir()
        self._config.base_model_name_or_path = base
        self._config.save_pretrained(folder)
        halves = {
            f"base_model.model.{name}.{half}.weight": getattr(layer, half)[ACTOR].weight.detach().contiguous()
            for name, layer in self._layers.items()
            for half in ("lora_A", "lora_B")
        }
        save_file(halves, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    def _let_peft_cast(self, on: bool) -> None:
        for layer in self._layers.values():
            layer.cast_input_dtype_enabled = on

    def _switch(self, name: str | None) -> None:
        if name == self._on:
            return
        for layer in self._layers.values():
            layer.enable_adapters(name is not None)
            if name is not None:
                layer.set_adapter(name)
        self._on = name


def _without_adapters(name: str) -> str:
    """Return the name that a weight had before layers were wrapped, once for each parameter that has an adapter."""
    return name.replace(".base_layer", "")


def using(adapters: Adapters | None, name: str | None) -> AbstractContextManager[None]:
    """Return a block in which that adapter is on; without adapters, one in which nothing changes."""
    return nullcontext() if adapters is None else adapters.active(name)


def add_adapters(causal_lm: PreTrainedModel, settings: LoraSettings, seed: int, with_critic: bool) -> Adapters:
    """Freeze a model, put adapters into its linear layers, and return them; they change nothing until they learn.

    Args:
        causal_lm: changed in place.
        settings: rank, scale and which layers.
        seed: of the adapters' random halves.
        with_critic: whether the critic has an adapter too.

    Raises:
        ConfigError: peft is not installed, or no layer is of those names.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError(
            'lora.rank asks for adapters, and peft is not installed: pip install "stepsearch[lora]"'
        ) from None
    layers = settings.target_modules
    lora_config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=layers if isinstance(layers, str) else list(layers),
        task_type="CAUSAL_LM",
    )
    causal_lm.requires_grad_(False)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # The critic's is the second.
        # Those of experts' parameters, which peft expects to be modules.
        warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys did not match")
        try:
            for name in (ACTOR, CRITIC) if with_critic else (ACTOR,):
                inject_adapter_in_model(lora_config, causal_lm, adapter_name=name)
        except ValueError as error:
            raise ConfigError(f"lora.target_modules: {one_line(error)}") from None
    _make_adapters_float32(causal_lm)
    return Adapters(causal_lm, lora_config)


def adapted_weights(causal_lm: PreTrainedModel, target_modules: str | Sequence[str]) -> list[Tensor]:
    """Return the weights, two-dimensional each, of the layers that get an adapter, as peft chooses them.

    Args:
        causal_lm: without adapters and without experts.
        target_modules: `all-linear`, a pattern of whole names, or names or their ends.

    Raises:
        ConfigError: no layer is of those names, or one is of another kind.
    """
    head = causal_lm.get_output_embeddings()
    modules = [(name, module) for name, module in causal_lm.named_modules() if name]
    if isinstance(target_modules, str) and target_modules.lower() == ALL_LINEAR:
        chosen = [(name, module) for name, module in modules if isinstance(module, _LINEAR) and module is not head]
    else:
        chosen = [(name, module) for name, module in modules if _is_named(name, target_modules)]
    if not chosen:
        raise ConfigError(f"lora.target_modules: the model has no layer of these names: {target_modules}")
    for name, module in chosen:
        if not isinstance(module, (*_LINEAR, nn.Embedding)):
            raise ConfigError(f"lora.target_modules: {name} is no linear layer: name those inside it")
    return [module.get_parameter("weight") for _, module in chosen]


def _is_named(name: str, target_modules: str | Sequence[str]) -> bool:
    if isinstance(target_modules, str):
        return re.fullmatch(target_modules, name) is not None
    return any(f".{name}".endswith(f".{target}") for target in target_modules)


def _make_adapters_float32(causal_lm: PreTrainedModel) -> None:
    """Let adapters have 32 bits, whatever the trunk has: steps of a usual size vanish in 16."""
    for name, parameter in causal_lm.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
