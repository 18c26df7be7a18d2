"""A saved model on the hub."""

from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from stepsearch.errors import ConfigError, ModelError, one_line
from stepsearch.models.model_card import CARD


def refuse_impossible_upload(repository: str) -> None:
    """Refuse what the hub would refuse after hours of training; the hub is not asked.

    Raises:
        ConfigError: the name is none that the hub has, or nobody is logged in.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError:
        raise ConfigError(f"{repository} is no name of a repository on the hub: write OWNER/NAME") from None
    if get_token() is None:
        raise ConfigError(
            "a model is pushed in somebody's name: log in with the command hf auth login, or set HF_TOKEN"
        )


def upload_model(folder: Path, repository: str, *, private: bool) -> str:
    """Send a saved model to the hub, in one commit, and return its address there; the repository is made if need be.

    Raises:
        ConfigError: the name is none that the hub has, or nobody is logged in.
        ModelError: the folder is no saved model, or the hub cannot be reached or refuses.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json: it is no saved model")
    refuse_impossible_upload(repository)
    hub = HfApi(library_name="stepsearch")
    try:
        hub.create_repo(repository, exist_ok=True, private=private or None)
        title = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
        commit = hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=_message(title))
    except Exception as error:  # The library has errors of its own, of its HTTP client and of its transfer.
        reason = one_line(error)
        raise ModelError(
            f"{folder} could not be pushed to {repository} at {hub.endpoint}, which cannot be reached or refuses: "
            f"{reason}"
        ) from None
    return str(commit.repo_url)


def _message(card: str) -> str:
    """Return the card's heading, or something as plain."""
    heading = next((line for line in card.splitlines() if line.startswith("# ")), "# StepSearch")
    return f"Add {heading.removeprefix('# ')}"
