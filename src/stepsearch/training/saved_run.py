"""What a run leaves on disk to go on from, written by the first of its processes with the shares of all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator

from stepsearch.config import Config
from stepsearch.models.step_search_model import StepSearchModel, model_record
from stepsearch.search.guarded_search import GuardedSearch
from stepsearch.training import checkpoints
from stepsearch.training.networks import FrozenTrunk, Networks, is_sharded
from stepsearch.training.run_folder import RunFolder
from stepsearch.training.run_state import Progress, restore_run, run_state
from stepsearch.training.sharding import gathered, shares_of_network
from stepsearch.types import Question


class SavedRun:
    """The checkpoints, the reference and the best model of a run; every process has to call each method.

    Args:
        folder: where.
        config: all settings.
        questions: what is trained on.
        policy: is saved as the best model.
        networks: what learns.
        reference: what the policy is held against; None without.
        accelerator: prepared both.
        search: whose cache is kept.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Config,
        questions: Sequence[Question],
        *,
        policy: StepSearchModel,
        networks: Networks,
        reference: StepSearchModel | FrozenTrunk | None,
        accelerator: Accelerator,
        search: GuardedSearch,
    ) -> None:
        self._folder, self._config, self._questions = folder, config, questions
        self._policy, self._networks = policy, networks
        # A frozen trunk is the model that the run was started with.
        self._reference = reference if isinstance(reference, StepSearchModel) else None
        self._accelerator, self._search = accelerator, search

    def check_unused(self) -> None:
        """Refuse a folder in which another run's checkpoints lie.

        Raises:
            ConfigError: there are some.
        """
        checkpoints.check_unused(self._folder.checkpoints)

    def restore(self) -> Progress | None:
        """Put the last whole checkpoint into the networks, and return how far the run was; None where there is none.

        Raises:
            ConfigError: it was written under settings that change what is computed.
            ModelError: every checkpoint is damaged, or fits another model.
        """
        state = checkpoints.load_last_checkpoint(self._folder.checkpoints)
        if state is None:
            return None
        checkpoints.check_fingerprint(state["fingerprint"], self._fingerprint())
        progress = restore_run(state, self._networks, self._accelerator, self._search)
        if self._reference is not None:
            network = self._reference.causal_lm
            network.load_state_dict(shares_of_network(checkpoints.load_reference(self._folder.checkpoints), network))
        return progress

    def save_checkpoint(self, progress: Progress) -> None:
        """Write what a resume needs.

        Raises:
            ModelError: it cannot be written.
        """
        state = run_state(progress, self._fingerprint(), self._networks, self._accelerator, self._search, self._writes)
        if self._writes:
            keep = self._config.logging.keep_checkpoints
            checkpoints.save_checkpoint(self._folder.checkpoints, progress.step, state, keep)

    def save_reference(self) -> None:
        """Write the reference's weights, unless it is the policy's own frozen trunk.

        Raises:
            ModelError: they cannot be written.
        """
        if self._reference is not None:
            weights = gathered(self._reference.causal_lm.state_dict(), self._writes)
            if self._writes:
                checkpoints.save_reference(self._folder.checkpoints, weights)

    def save_best(self, record: Mapping[str, Any]) -> None:
        """Write the policy as it is now in place of the best model.

        Args:
            record: what it is to remember besides its settings.

        Raises:
            ModelError: it cannot be written.
        """
        is_shared_out = is_sharded(self._config, self._accelerator)
        weights = gathered(self._policy.causal_lm.state_dict(), self._writes) if is_shared_out else None
        if self._writes:
            self._policy.save(self._folder.best_model, {**model_record(self._config), **record}, weights)

    @property
    def _writes(self) -> bool:
        return self._accelerator.is_main_process

    def _fingerprint(self) -> dict[str, str]:
        return checkpoints.fingerprint(self._config, self._questions)
