"""Settings that are validated, immutable and free of unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Settings"]


class Settings(BaseModel):
    """Base of recipe sections and of the settings of models."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
