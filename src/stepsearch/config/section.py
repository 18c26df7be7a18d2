"""A section of the settings: a frozen group of typed values."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def as_mapping(settings: BaseModel) -> Mapping[str, Any]:
    """Return settings as plain JSON values."""
    return settings.model_dump(mode="json")
