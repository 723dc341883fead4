"""From a run to a bundle: write each artifact, load it again, prove it against Keras, and only then list it."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.files import publish_folder, sha256_of, staging_folder, write_json
from training.progress import track
from training.run import Run, toolchain
from training.trainer import predict
from training.weights import Weights
from vdeploy import __version__
from vdeploy.bundle import CLASSES, MANIFEST, SCHEMA_VERSION, Artifact, Bundle, Extractor, Manifest, Stage, TensorSpec
from vdeploy.errors import BundleError, ExportError
from vdeploy.export.onnx import classifier_to_onnx, extractor_to_onnx
from vdeploy.export.parity import check_parity, synthetic_frames
from vdeploy.formats import Format
from vdeploy.runtimes.onnxruntime import OnnxRuntime

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["export_run"]

PARITY_BATCHES = (1, 3)


class _Reference:
    """The run in Keras, and inputs to compare on."""

    def __init__(self, run: Run, weights: Weights) -> None:
        self.extractor = run.extractor(weights)
        self.classifier = run.classifier()
        spec = run.recipe.clip_spec
        frames: npt.NDArray[Any] = synthetic_frames(max(PARITY_BATCHES), spec.frames, spec.size)
        self.inputs: dict[Stage, npt.NDArray[Any]] = {"extractor": frames, "classifier": self.extractor.extract(frames)}
        self.functions: dict[Stage, Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]] = {
            "extractor": self.extractor.extract,
            "classifier": lambda features: predict(self.classifier, features),
        }
        pixels, dim = ("batch", "time", spec.size, spec.size, 3), run.dim
        self.tensors: dict[Stage, tuple[TensorSpec, TensorSpec]] = {
            "extractor": (
                TensorSpec(name="frames", dtype="uint8", shape=pixels),
                TensorSpec(name="features", dtype="float32", shape=("batch", "time", dim)),
            ),
            "classifier": (
                TensorSpec(name="features", dtype="float32", shape=("batch", spec.frames, dim)),
                TensorSpec(name="probabilities", dtype="float32", shape=("batch", 2)),
            ),
        }

    def write(self, stage: Stage, path: Path) -> None:
        model = extractor_to_onnx(self.extractor) if stage == "extractor" else classifier_to_onnx(self.classifier)
        path.write_bytes(model.SerializeToString(deterministic=True))


def export_run(run: Run, formats: Sequence[Format], out: Path, *, weights: Weights | None = None) -> Bundle:
    """Exports a run.

    The bundle takes the place of an older one in a single step, after every artifact has been proven.

    Args:
        run: The run.
        formats: What to export.
        out: Folder of the bundle.
        weights: VGG19's weights, where they are not found as when the run was trained.

    Returns:
        The bundle.

    Raises:
        BundleError: Something else than a bundle stands in the way.
        ParityError: An artifact does not compute what the run computes.
        ExportError: An artifact could not be written.
    """
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(f"{out} is in the way: it is no bundle", "choose another folder: --out BUNDLE")
    weights = weights or run.weights()
    jobs = [(stage, kind) for kind in formats for stage in kind.stages]
    try:
        with staging_folder(out) as staged, track("export", 2 * len(jobs) + 1, "steps") as step:
            step.advance(0, note="load the run")
            reference = _Reference(run, weights)
            step.advance()
            artifacts = []
            for stage, kind in jobs:
                step.advance(0, note=f"write {stage} {kind.name}")
                path = staged / stage / kind.name / kind.file
                path.parent.mkdir(parents=True)
                reference.write(stage, path)
                step.advance(1, note=f"prove {stage} {kind.name}")
                artifacts.append(_prove(reference, stage, kind, path, path.relative_to(staged).as_posix()))
                step.advance(1)
            write_json(staged / MANIFEST, _manifest(run, weights, artifacts).model_dump(mode="json"))
            publish_folder(staged, out)
    except OSError as error:
        raise ExportError(
            f"cannot write the bundle {out} ({error.strerror or error})",
            "free some space or choose another --out; an earlier bundle is intact",
        ) from error
    return Bundle(out)


def _prove(reference: _Reference, stage: Stage, kind: Format, path: Path, relative: str) -> Artifact:
    tensors = reference.tensors[stage]
    parity = check_parity(
        kind,
        OnnxRuntime(path),
        reference.functions[stage],
        reference.inputs[stage],
        tensors=tensors,
        batches=PARITY_BATCHES,
    )
    return Artifact(
        stage=stage,
        format=kind.name,
        precision=kind.precision,
        path=relative,
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
        inputs=tensors[:1],
        outputs=tensors[1:],
        parity=parity,
        toolchain={**toolchain(), **{name: metadata.version(name) for name in ("onnx", "onnxruntime", "tf2onnx")}},
    )


def _manifest(run: Run, weights: Weights, artifacts: Sequence[Artifact]) -> Manifest:
    return Manifest(
        schema_version=SCHEMA_VERSION,
        vdeploy_version=__version__,
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        run=run.info.name,
        classes=CLASSES,
        threshold=run.info.threshold,
        temperature=run.info.temperature,
        clip=run.recipe.clip_spec.to_dict(),
        extractor=Extractor(
            layer=run.recipe.features.layer, dim=run.dim, weights=weights.source, weights_sha256=weights.sha256
        ),
        metrics=run.metrics,
        artifacts=tuple(artifacts),
    )
