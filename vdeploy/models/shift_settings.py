"""What a temporal shift moves, and what follows from it for streams; needs no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from vdeploy.core.errors import RecipeError
from vdeploy.core.settings import Settings

__all__ = ["Direction", "TemporalShift", "past_frames", "valid_shift"]

Direction = Literal["both", "past"]
"""``"both"``: from the frame before and from the frame after. ``"past"``: from the frame before alone."""


class TemporalShift(Settings):
    """What is shifted.

    Attributes:
        direction: Where channels come from.
        blocks: Blocks of the backbone before whose residual branches channels are shifted.
    """

    direction: Direction
    blocks: tuple[str, ...] = Field(min_length=1)


def valid_shift(values: Any) -> TemporalShift:
    """Validate what a recipe or a manifest says of a shift.

    Raises:
        RecipeError: It does not say it as a training does.
    """
    try:
        return TemporalShift.model_validate(values)
    except ValueError as error:
        raise RecipeError(f"temporal_shift is not as a training writes it: {values!r}", "train again") from error


def past_frames(granularity: str, settings: Mapping[str, Any], frames: int) -> int | None:
    """Return how many frames before a frame its features depend on, where they depend on no later one.

    Each block that is shifted towards the past reaches one frame further back.

    Args:
        granularity: What the backbone looks at as one: ``"frame"`` or ``"clip"``.
        settings: Its settings, as a manifest holds them.
        frames: Frames of a clip, T.

    Returns:
        Less than T, 0 for a backbone that looks at single frames; ``None`` where the frames of a clip are looked at
        together, or where T frames are too few for one that has all of its past.

    Raises:
        RecipeError: The settings do not say what is shifted as a training does.
    """
    if granularity == "frame":
        return 0
    shift = settings.get("temporal_shift")
    # The motion region moves with all frames of a clip.
    if shift is None or settings.get("region", "full") != "full":
        return None
    valid = valid_shift(shift)
    return len(valid.blocks) if valid.direction == "past" and len(valid.blocks) < frames else None
