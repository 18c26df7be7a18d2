"""Whether the model hub has a model, asked once and briefly: transformers itself would try for a minute."""

from enum import Enum, auto
from functools import cache

_SECONDS = 5.0


class HubAnswer(Enum):
    """What the hub says of a model."""

    HAS = auto()
    """It is there, and may be read."""
    LACKS = auto()
    """There is none of that name, or it may not be read."""
    SILENT = auto()
    """The hub cannot be reached, or is not to be: what was fetched before may do."""


@cache
def ask_hub(name: str) -> HubAnswer:
    """Return whether the hub has a model of that name."""
    # Not above: most commands never ask it.
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=_SECONDS)
    except (RepositoryNotFoundError, HFValidationError):
        return HubAnswer.LACKS
    except Exception:  # Whatever keeps the hub from answering.
        return HubAnswer.SILENT
    return HubAnswer.HAS
