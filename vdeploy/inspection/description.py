"""The answer to `vdeploy inspect`, whatever was looked at."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from vdeploy.inspection.incompatibilities import Refusal

__all__ = ["Description", "Part", "Tensor"]

Kind = Literal["bundle", "repository", "engine", "onnx", "openvino"]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: Its name.
        dtype: Type of its values.
        shape: Its axes; a free one is a name or -1.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class Part:
    """One file that runs, or an ensemble of those that do.

    Attributes:
        name: Its stage, model or file.
        format: Its format or backend.
        precision: The precision found in it; empty where it holds no layers, or nothing here can tell.
        bytes: Its size.
        sha256: Its hash; empty for an ensemble.
        inputs: What it takes.
        outputs: What it gives.
        versions: Of its format and of what made it, by name.
        refused: Who would not run it.
    """

    name: str
    format: str
    precision: str = ""
    bytes: int = 0
    sha256: str = ""
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()


@dataclasses.dataclass(frozen=True)
class Description:
    """What was found.

    Attributes:
        kind: What it is.
        path: Where it is.
        facts: What is true of all of it, in a few words each.
        parts: What it is made of.
    """

    kind: Kind
    path: str
    facts: dict[str, str]
    parts: tuple[Part, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)
