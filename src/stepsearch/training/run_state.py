"""What a checkpoint holds: weights, optimisers, random states, the search's cache and the run's progress."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from stepsearch.errors import ModelError, one_line
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training.networks import LearnedWeights, Networks
from stepsearch.training.sharding import gathered, shares_of_network, shares_of_optimizer


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        step: whole steps taken.
        schedule_steps: the run's length when it began, by which learning rates rise; a run that is continued for
            longer does not warm up anew.
        best: dev EM and F1 of the best model so far.
    """

    step: int
    schedule_steps: int
    best: tuple[float, float] | None = None


def run_state(
    progress: Progress,
    fingerprint: Mapping[str, str],
    networks: Networks,
    accelerator: Accelerator,
    search: GuardedSearch,
    keep: bool = True,
) -> dict[str, Any]:
    """Return everything that a resume needs, as tensors and plain values, in however many processes.

    Every process has to ask for it; with `keep` off one only hands its shares of tensors over.
    """
    parts = _parts(networks, accelerator)
    return {
        "progress": asdict(progress),
        "fingerprint": dict(fingerprint),
        **{name: gathered(part.state_dict(), keep) for name, part in parts.items()},
        "random": _random_states(),
        "search_cache": search.cached_results() if keep else [],
    }


def restore_run(
    state: Mapping[str, Any], networks: Networks, accelerator: Accelerator, search: GuardedSearch
) -> Progress:
    """Put `state` into the parts, in place, and return how far the run was.

    Raises:
        ModelError: the weights do not fit the model.
    """
    try:
        for name, part in _parts(networks, accelerator).items():
            part.load_state_dict(_own_share(state[name], part))
        _restore_random_states(state["random"])
        search.restore_cache(state["search_cache"])
        return Progress(**state["progress"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = one_line(error)
        raise ModelError(
            f"the checkpoint does not fit this model ({reason}): resume with the same model.name"
        ) from None


def _parts(networks: Networks, accelerator: Accelerator) -> dict[str, Any]:
    """Return what has a state, by its name in a checkpoint."""
    policy = accelerator.unwrap_model(networks.policy)
    is_adapted = policy.adapters is not None
    parts: dict[str, Any] = {
        "policy": LearnedWeights(networks.policy_learner) if is_adapted else policy,
        "policy_optimizer": networks.policy_learner.optimizer,
    }
    if networks.critic_learner is not None:
        parts["critic_optimizer"] = networks.critic_learner.optimizer
    if networks.critic_learner is not None and is_adapted:
        parts["critic"] = LearnedWeights(networks.critic_learner)
    elif networks.value_model is not None:
        parts["critic"] = accelerator.unwrap_model(networks.value_model)
    return parts


def _own_share(state: Mapping[str, Any], part: Any) -> Mapping[str, Any]:
    """Return of a part's whole state what this process keeps."""
    if isinstance(part, nn.Module):
        return shares_of_network(state, part)
    if isinstance(part, Optimizer):
        return shares_of_optimizer(state, [parameter for group in part.param_groups for parameter in group["params"]])
    return state


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        # Of the device in use: to ask the others would take memory on each.
        states["cuda"] = [torch.cuda.get_rng_state()]
    return states


def _restore_random_states(states: Mapping[str, Any]) -> None:
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"].cpu())
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"][0].cpu())
