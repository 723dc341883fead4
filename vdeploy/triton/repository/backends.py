"""The formats that Triton serves, the backend of each, and why the others are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

from vdeploy.artifacts.bundle import Artifact, Stage
from vdeploy.core.errors import RepositoryError
from vdeploy.models.stage_names import stage_model
from vdeploy.triton.names import CLASSIFIER_MODEL, EXTRACTOR_MODEL, MAX_BATCH_SIZE, WINDOW_MODEL
from vdeploy.triton.server.install import TritonInstall

__all__ = [
    "CODE_FILE",
    "FILES",
    "PYTHON_RUNTIMES",
    "STREAM_FILE",
    "Backend",
    "BackendChoice",
    "ServedStage",
    "common_batch",
    "known_backend",
    "largest_batch",
    "missing_file",
    "refusal",
    "served_stage",
]

Backend = Literal["python", "onnxruntime", "tensorrt"]
BackendChoice = Literal["auto", "python", "onnxruntime", "tensorrt"]

CODE_FILE = "model.py"
"""What the Python backend opens; it runs the other files beside it."""

STREAM_FILE = "model.onnx"
"""The streaming form of a causal extractor, beside the code that keeps windows."""

FILES: dict[Backend, tuple[tuple[str, ...], ...]] = {
    "python": ((CODE_FILE, "model.onnx"), (CODE_FILE, "model.xml", "model.bin")),
    "onnxruntime": (("model.onnx",),),
    "tensorrt": (("model.plan",),),
}
"""What a version folder may hold; the first file is what Triton opens. All but code comes out of the bundle."""

PYTHON_RUNTIMES = {"model.onnx": "onnxruntime", "model.xml": "openvino"}
"""The module that the Python backend's code imports, by the file that it finds beside it."""

_OPENVINO = "openvino-"

_REFUSALS = {
    "tensorrt-rtx-": (
        "Triton's TensorRT backend runs engines of the library tensorrt, not of tensorrt_rtx",
        "export to tensorrt-fp16 on the machine with the GPU, or serve ONNX with --backend onnxruntime --accelerate",
    ),
    "savedmodel": (
        "Triton has dropped its TensorFlow backend (release 25.03)",
        "export to an onnx-* format and serve that",
    ),
    "tflite-": ("Triton never had a TFLite backend", "export to an onnx-* format and serve that"),
}


@dataclasses.dataclass(frozen=True)
class ServedStage:
    """A stage as Triton is to run it.

    Attributes:
        stage: Which of the two.
        format: Its format in the bundle.
        backend: What runs it.
        largest_batch: Clips that it takes at once, or `None` where it takes any number.
        architecture: Name of the backbone or head, after which its model is named.
        variant: What else is in that name; see `vdeploy.models.stage_names.stage_model`.
        granularity: What an extractor looks at as one: a frame, or a clip.
        past_frames: How many frames before a frame the features of a causal extractor depend on; 0 for others.
        has_stream: Whether the bundle holds the streaming form of a causal extractor.
    """

    stage: Stage
    format: str
    backend: Backend
    largest_batch: int | None = None
    architecture: str = ""
    variant: str = ""
    granularity: Literal["frame", "clip"] = "frame"
    past_frames: int = 0
    has_stream: bool = False

    @property
    def model(self) -> str:
        """The name of its model."""
        defaults = {"extractor": EXTRACTOR_MODEL, "classifier": CLASSIFIER_MODEL}
        return stage_model(self.stage, self.architecture, self.variant) if self.architecture else defaults[self.stage]

    @property
    def files(self) -> tuple[str, ...]:
        """What its version folders hold, as in `FILES`."""
        return FILES[self.backend][-1 if self.format.startswith(_OPENVINO) else 0]


def served_stage(artifact: Artifact, wanted: BackendChoice, install: TritonInstall | None) -> ServedStage:
    """Decides what runs an artifact: TensorRT an engine, the Python backend OpenVINO, what is wanted an ONNX file.

    Args:
        artifact: The extractor or the classifier in some format.
        wanted: `"auto"` takes Triton's own ONNX Runtime for an ONNX file where `install` has it.
        install: The server that will read the repository; only `"auto"` looks at it.

    Raises:
        RepositoryError: Triton cannot serve the format, or not with that backend.
    """
    if reason := refusal(artifact.format):
        raise RepositoryError(f"Triton cannot serve the {artifact.stage} in {artifact.format}: {reason[0]}", reason[1])
    is_engine = artifact.format.startswith("tensorrt-")
    if wanted == "tensorrt" and not is_engine:
        raise RepositoryError(
            f"the tensorrt backend cannot run the {artifact.stage} in {artifact.format}",
            "choose a tensorrt-* format, or --backend auto for stages of different kinds",
        )
    if wanted in {"python", "onnxruntime"} and is_engine:
        raise RepositoryError(
            f"the {wanted} backend cannot run the {artifact.stage} in {artifact.format}",
            "choose an onnx-* format, or --backend auto for stages of different kinds",
        )
    is_openvino = artifact.format.startswith(_OPENVINO)
    if wanted == "onnxruntime" and is_openvino:
        raise RepositoryError(
            f"the onnxruntime backend cannot run the {artifact.stage} in {artifact.format}",
            "choose --backend python, which runs OpenVINO, or an onnx-* format",
        )
    backend: Backend = "tensorrt" if is_engine else "python" if is_openvino else _onnx_backend(wanted, install)
    return ServedStage(artifact.stage, artifact.format, backend, largest_batch(artifact))


def refusal(format_name: str) -> tuple[str, str] | None:
    """Why Triton cannot serve a format and what to do instead, or `None` where it can."""
    return next((reason for begin, reason in _REFUSALS.items() if format_name.startswith(begin)), None)


def known_backend(name: str) -> Backend | None:
    """The backend of that name; `None` where vdeploy writes nothing for it."""
    return next((backend for backend in FILES if backend == name), None)


def missing_file(model: str, backend: Backend, held: Collection[str]) -> str:
    """The first file that a version folder lacks, of what it seems to hold.

    Args:
        model: Name of the model that it is a version of.
        backend: What is to open it.
        held: Names of its files.

    Returns:
        The file's name, or `""` where nothing is missing.
    """
    kinds = ((CODE_FILE,), (CODE_FILE, STREAM_FILE)) if model == WINDOW_MODEL else FILES[backend]
    nearest = max(kinds, key=lambda files: len({*files} & {*held}))
    whole = any({*files} <= {*held} for files in kinds)
    return "" if whole else next(file for file in nearest if file not in held)


def largest_batch(artifact: Artifact) -> int | None:
    """Clips that an engine was built for at most, or `None` for what takes any number."""
    shapes = artifact.details.get("engine", {}).get("shapes", {})
    return min((int(largest[0]) for _, _, largest in shapes.values()), default=None)


def common_batch(stages: tuple[ServedStage, ...], wanted: int | None) -> int:
    """The largest request that all models of an ensemble take; Triton wants one number in all of them.

    Args:
        stages: What the ensemble is made of.
        wanted: What was asked for, or `None`.

    Raises:
        RepositoryError: A stage does not take as many.
    """
    for stage in stages:
        if wanted is not None and stage.largest_batch is not None and stage.largest_batch < wanted:
            raise RepositoryError(
                f"the {stage.stage} in {stage.format} takes {stage.largest_batch} clips at most, not {wanted}, and all "
                "models of an ensemble must take the same number",
                f"choose --max-batch {stage.largest_batch}, or export with --batch 1,{wanted},{wanted}",
            )
    limits = [stage.largest_batch for stage in stages if stage.largest_batch is not None]
    return wanted or min((MAX_BATCH_SIZE, *limits))


def _onnx_backend(wanted: BackendChoice, install: TritonInstall | None) -> Backend:
    if wanted in {"python", "onnxruntime"}:
        return "python" if wanted == "python" else "onnxruntime"
    return "onnxruntime" if install is not None and install.has_backend("onnxruntime") else "python"
