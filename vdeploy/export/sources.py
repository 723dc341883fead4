"""ONNX files that formats are made from, each written once however many formats need it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vdeploy.bundle.manifest import Stage
from vdeploy.export.onnx import classifier_to_onnx, extractor_to_onnx
from vdeploy.export.reference import Reference

__all__ = ["Flavour", "Sources"]

Flavour = Literal["fp32"]


class Sources:
    """A folder of ONNX files, filled on demand.

    Args:
        reference: The run in Keras.
        folder: An empty folder that lives as long as the export.
    """

    def __init__(self, reference: Reference, folder: Path) -> None:
        self._reference = reference
        self._folder = folder

    def onnx(self, stage: Stage, flavour: Flavour) -> Path:
        """The ONNX file of a stage.

        Args:
            stage: ``"extractor"`` or ``"classifier"``.
            flavour: Its precision.
        """
        path = self._folder / f"{stage}-{flavour}.onnx"
        if not path.exists():
            if stage == "extractor":
                model = extractor_to_onnx(self._reference.extractor)
            else:
                model = classifier_to_onnx(self._reference.classifier)
            path.write_bytes(model.SerializeToString(deterministic=True))
        return path
