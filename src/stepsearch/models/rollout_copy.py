"""A copy of the policy to sample from, in half precision and with the adapter worked in.

Sampling on an accelerator waits for weights to be read. Weights that learn are float32, twice as many bytes, and an
adapter doubles the number of kernels; the copy has neither. What it costs is its own memory, two bytes per weight, and
log-probabilities that differ from the trainer's by rounding. A saved policy that no longer learns is loaded in half
precision and needs no copy.
"""

from typing import cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from stepsearch.config import Config
from stepsearch.models.step_search_model import StepSearchModel
from stepsearch.models.trunk import sampled_in_half


def wants_copy(device_type: str, config: Config) -> bool:
    """Return whether a policy is sampled from a copy: on an accelerator, with adapters or in mixed precision."""
    return device_type != "cpu" and sampled_in_half(config)


class RolloutCopy:
    """Follows the policy when asked to.

    Args:
        policy: what is copied, now and at every `sync`.
        dtype: of the copy's weights.
    """

    def __init__(self, policy: StepSearchModel, dtype: torch.dtype = torch.bfloat16) -> None:
        self._policy = policy
        device = policy.causal_lm.device
        with torch.random.fork_rng(), torch.device(device):
            causal_lm = AutoModelForCausalLM.from_config(policy.causal_lm.config, dtype=dtype)
        self.causal_lm = cast(PreTrainedModel, causal_lm.to(device).eval().requires_grad_(False))
        self.causal_lm.generation_config = policy.causal_lm.generation_config
        self._weights = self.causal_lm.state_dict()
        self.sync()

    @torch.no_grad()
    def sync(self) -> None:
        """Take over the policy's weights as they are now."""
        for name, weight in self._policy.weights():
            self._weights[name].copy_(weight)
