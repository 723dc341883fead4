"""The result of `vdeploy inspect`."""

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
    """A model file, or an ensemble of models.

    Attributes:
        name: Its stage, model or file.
        format: Its format or backend.
        precision: The precision found in it; empty where it has no layers or cannot be read here.
        bytes: Its size.
        sha256: Its hash; empty for an ensemble.
        inputs: Its inputs.
        outputs: Its outputs.
        versions: Versions of its format and of the packages that wrote it, by name.
        refused: Runtimes that do not run it.
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
    """Description of a bundle, a repository or a model file.

    Attributes:
        kind: Kind of the file or folder.
        path: Its path.
        facts: Properties of the whole, by name.
        parts: Its models and files.
    """

    kind: Kind
    path: str
    facts: dict[str, str]
    parts: tuple[Part, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)
