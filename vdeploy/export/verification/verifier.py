"""Proving what was written: each stage against Keras, then both stages together on held-out clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vdeploy.artifacts.bundle.manifest import HeldOut, Parity, Stage
from vdeploy.core.errors import ExportError
from vdeploy.core.progress import track
from vdeploy.export.verification.held_out import check_verdicts
from vdeploy.export.verification.parity import batches_of, check_parity
from vdeploy.formats import FORMATS, Format
from vdeploy.inference.causal import ClipsAsStreams, Stepper
from vdeploy.inference.runtimes.registry import open_runtime

if TYPE_CHECKING:
    import numpy.typing as npt

    from vdeploy.export.reference_data import ReferenceData
    from vdeploy.export.writer_api import Written
    from vdeploy.inference.runtimes.base import Runtime

__all__ = ["FEW_CLIPS", "Verifier"]

FEW_CLIPS = 8
"""Held-out clips for a format in floating point: its parity is exact enough to leave little for them to find."""


class Verifier:
    """Compares formats with the run.

    Args:
        data: Inputs, and what the run answers to them.
        clips: How many held-out clips to judge on; ``None`` for all for INT8, and few for the others.
    """

    def __init__(self, data: ReferenceData, clips: int | None) -> None:
        self._data = data
        self._clips = clips

    def open(self, kind: Format, path: Path, written: Written) -> Runtime:
        """Loads what was written, or the ONNX file that stands in for it where it cannot be run here."""
        if written.stand_in is None:
            return open_runtime(kind, path, lean=True)
        return open_runtime(FORMATS["onnx-fp32"], written.stand_in, lean=True)

    def stage(self, kind: Format, stage: Stage, runtime: Runtime, written: Written) -> Parity:
        """Checks the precision that was found in a stage, and its numbers; a streaming form's by clips, frame by frame.

        Raises:
            ExportError: It has another precision than the format promises.
            ParityError: It does not compute what Keras computes.
        """
        if not kind.accepts(stage, written.precision):
            raise ExportError(
                f"{kind.name}: the {stage} is not {kind.precision} inside but {written.precision}",
                "report this with the versions of vdeploy doctor",
            )
        if stage == "stream":
            streams = ClipsAsStreams(Stepper(lambda: runtime, written.details["buffer"]))
            return self.stage(kind, "extractor", streams, written)
        taken, given = self._data.reference.tensors[stage]
        if kind.fixed_time and written.stand_in is None:
            taken = taken.model_copy(update={"shape": self._data.inputs[stage].shape})
        parity = check_parity(
            kind,
            runtime,
            lambda _: self._data.expected[stage],
            self._data.inputs[stage],
            tensors=(taken, given),
            batches=batches_of(stage, self._data.reference.spec),
        )
        return parity.model_copy(
            update={
                "inputs": "synthetic" if self._data.held_out is None else "real",
                "executed": "artifact" if written.stand_in is None else "the ONNX file that it was built from",
            }
        )

    def verdicts(self, kind: Format, runtimes: Mapping[Stage, Runtime]) -> dict[Stage, HeldOut]:
        """Judges the two stages, each with the other one in Keras, and both together (``"pipeline"``).

        Returns:
            What was found; nothing where there are no held-out clips.

        Raises:
            ParityError: Verdicts flip, or accuracy is lost, beyond the format's limits.
        """
        held_out = self._data.held_out
        if held_out is None:
            return {}
        count = min(len(held_out), self.clips_for(kind) or len(held_out))
        extractor, classifier = runtimes["extractor"], runtimes["classifier"]
        features = []
        with track(f"judge {kind.name}", count, "clips") as step:
            for frames in held_out.frames(count):
                features.append(extractor.infer({"frames": frames[np.newaxis]})["features"])
                step.advance()
        extracted = np.concatenate(features)
        probabilities: dict[Stage, npt.NDArray[np.float32]] = {
            "extractor": self._data.reference.compute("classifier", extracted),
            "classifier": classifier.infer({"features": held_out.features})["probabilities"],
            "pipeline": classifier.infer({"features": extracted})["probabilities"],
        }
        names = {"extractor": "the extractor", "classifier": "the classifier", "pipeline": "the whole"}
        verdicts = {stage: held_out.judge(values[:, 1]) for stage, values in probabilities.items()}
        for stage, verdict in verdicts.items():
            check_verdicts(kind, names[stage], verdict)
        return verdicts

    def clips_for(self, kind: Format) -> int | None:
        """How many held-out clips a format is judged on; ``None`` for all."""
        if self._clips is not None or kind.precision == "int8":
            return self._clips
        return FEW_CLIPS
