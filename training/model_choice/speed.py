"""Speed of a model on this machine: trained, exported, and measured as `vdeploy benchmark` does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from training.model_choice.candidates import Candidate
from training.pipeline import train
from training.recipe import recipe_of_run
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.run import CLIPS, Run
from vdeploy.benchmark.bundle_benchmark import benchmark_bundle
from vdeploy.benchmark.kept_speeds import keep_speeds
from vdeploy.benchmark.plan import Plan
from vdeploy.core.errors import DatasetError, RunError
from vdeploy.dataset import Dataset
from vdeploy.export.availability import obstacle
from vdeploy.export.exporter import export_run
from vdeploy.export.options import ExportOptions
from vdeploy.formats import parse_formats

__all__ = ["FORMATS", "Speed", "export_candidate", "measure_speed"]

FORMATS = "onnx-fp32,onnx-int8,openvino-int8"

_HELD_OUT_CLIPS = 16
_CALIBRATION_CLIPS = 24


@dataclasses.dataclass(frozen=True)
class Speed:
    """What one clip costs, from its frames to its probabilities.

    Attributes:
        bundle: Folder of the exported bundle.
        parameters: Weights of backbone and head together.
        gflop: 10^9 floating-point operations a clip; a multiply-add is two.
        ms: Median milliseconds a clip, by format.
        refused: Why a format has no time, by format.
    """

    bundle: str
    parameters: int
    gflop: float
    ms: dict[str, float]
    refused: dict[str, str]

    def fastest(self, precision: str) -> tuple[str, float] | None:
        """The fastest format of a precision, such as ``"int8"``, and its milliseconds; ``None`` if there is none."""
        times = [(value, name) for name, value in self.ms.items() if name.endswith(f"-{precision}")]
        return (min(times)[1], min(times)[0]) if times else None


def measure_speed(candidate: Candidate, clips: Path, folder: Path, store_root: Path, *, seconds: float) -> Speed:
    """Trains, exports and measures a candidate; what a folder already holds is taken as it is.

    The speeds are kept for `serve` and `predict`; see `vdeploy.benchmark.kept_speeds`.

    Args:
        candidate: The recipe.
        clips: CSV of the clips to train on.
        folder: Gets ``run`` and ``bundle``.
        store_root: Folder of all feature stores.
        seconds: Time to measure each format.

    Raises:
        UserError: The training, the export of every format, or the measurement failed.
    """
    bundle, refused = export_candidate(candidate, clips, folder, store_root)
    made = tuple(kind.name for kind in parse_formats(FORMATS) if kind.name not in refused)
    result = benchmark_bundle(bundle.root, Plan(workloads=("pipeline",), formats=made, seconds=seconds))
    keep_speeds(bundle.root, result)
    ms = {}
    for row in result.rows:
        if row.status == "ok" and row.p50_ms is not None:
            ms[row.name] = row.p50_ms
        elif row.name not in refused:
            refused[row.name] = row.reason or row.status
    manifest = bundle.manifest
    stages = (manifest.extractor, manifest.classifier)
    return Speed(
        bundle=str(folder / "bundle"),
        parameters=sum(stage.parameters or 0 for stage in stages),
        gflop=sum(stage.flops or 0 for stage in stages) / 1e9,
        ms=ms,
        refused=refused,
    )


def export_candidate(
    candidate: Candidate, clips: Path, folder: Path, store_root: Path, formats: str = FORMATS
) -> tuple[Bundle, dict[str, str]]:
    """Trains and exports a candidate; a run that a folder already holds is taken as it is.

    Args:
        candidate: The recipe.
        clips: CSV of the clips to train on.
        folder: Gets ``run`` and ``bundle``.
        store_root: Folder of all feature stores.
        formats: What to export, separated by commas.

    Returns:
        The bundle, and why formats are not in it.

    Raises:
        UserError: The training or the export of every format failed.
    """
    run = _finished(candidate, clips, folder / "run")
    if run is None:
        run = train(clips, folder / "run", candidate.recipe, store_root=store_root)
    kinds = parse_formats(formats)
    refused = {kind.name: reason for kind in kinds if (reason := obstacle(kind, has_data=True))}
    wanted = [kind for kind in kinds if kind.name not in refused]
    options = ExportOptions(store_root=store_root, clips=_HELD_OUT_CLIPS, calibration_clips=_CALIBRATION_CLIPS)
    exported = export_run(run, wanted, folder / "bundle", weights=candidate.weights, options=options)
    return exported.bundle, refused | {rejection.format: rejection.reason for rejection in exported.rejected}


def _finished(candidate: Candidate, clips: Path, folder: Path) -> Run | None:
    """A run of this recipe on these clips."""
    try:
        run = Run.load(folder)
        learned = {clip.sha256 for clip in Dataset.read_csv(folder / CLIPS).clips}
        is_same = learned <= {clip.sha256 for clip in Dataset.read_csv(clips).clips}
        return run if is_same and recipe_of_run(folder) == candidate.recipe else None
    except (DatasetError, RunError):
        return None
