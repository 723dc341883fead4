"""From a run to a bundle: write each format, load it again, prove it against Keras, and only then list it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from vdeploy import __version__
from vdeploy.artifacts.bundle import CLASSES, MANIFEST, SCHEMA_VERSION, Bundle, Manifest, StageInfo
from vdeploy.artifacts.bundle.golden import GOLDEN
from vdeploy.artifacts.run import Run
from vdeploy.core.errors import DeployError, ExportError, MissingExtraError
from vdeploy.core.files import publish_folder, staging_folder, write_json
from vdeploy.core.locks import folder_lock
from vdeploy.core.timestamps import now
from vdeploy.export.format_exporter import FormatExporter, Proven
from vdeploy.export.model_card import write_documents
from vdeploy.export.options import ExportOptions
from vdeploy.export.previous_bundle import carry_over, open_earlier
from vdeploy.export.verification.rejected_formats import RejectedFolder, Rejection
from vdeploy.formats import Format
from vdeploy.models.weights.find import Weights

__all__ = ["Exported", "export_run"]


@dataclasses.dataclass(frozen=True)
class Exported:
    """What became of an export.

    Attributes:
        bundle: The bundle.
        made: Names of the formats that were made and proven now.
        kept: Names of the formats that an earlier export of the same run had proven.
        rejected: Formats that failed; their files lie beside the bundle.
    """

    bundle: Bundle
    made: tuple[str, ...]
    kept: tuple[str, ...]
    rejected: tuple[Rejection, ...]


def export_run(
    run: Run,
    formats: Sequence[Format],
    out: Path,
    *,
    weights: Weights | None = None,
    options: ExportOptions | None = None,
) -> Exported:
    """Exports a run.

    The bundle takes the place of an older one in a single step, after every artifact in it has been proven. A format
    that cannot be made or proven is kept aside in ``OUT.rejected``; the others still ship.

    Args:
        run: The run.
        formats: What to export.
        out: Folder of the bundle.
        weights: The backbone's weights, where they are not found as when the run was trained.
        options: Further choices.

    Returns:
        The bundle, and which formats are new, kept and rejected.

    Raises:
        BundleError: Something else than a bundle stands in the way.
        ParityError: Every format failed, the first because it does not compute what the run computes.
        ExportError: Every format failed, or the bundle cannot be written.
        LockedError: Another export writes there.
    """
    options = options or ExportOptions()
    weights = weights or run.weights()
    try:
        with (
            folder_lock(out, "choose another --out"),
            staging_folder(out) as staged,
            staging_folder(out.with_name(f"{out.name}.work")) as scratch,
            RejectedFolder(out) as rejected,
        ):
            earlier = open_earlier(out, run, keep=options.keep)
            exporter = FormatExporter(run, weights, formats, options, staged, scratch)
            proven: dict[str, Proven] = {}
            for kind in formats:
                try:
                    proven[kind.name] = exporter.make(kind)
                except (DeployError, MissingExtraError) as error:
                    rejected.take(kind, error, staged)
            if not proven:
                raise rejected.first
            kept = _kept(earlier, proven)
            if earlier is not None:
                carry_over(earlier, kept, staged)
            exporter.golden().save(staged / GOLDEN)
            manifest = _manifest(run, exporter.stages(), proven, earlier, kept)
            manifest = write_documents(manifest, staged, report=options.report)
            write_json(staged / MANIFEST, manifest.model_dump(mode="json"))
            publish_folder(staged, out)
    except OSError as error:
        raise ExportError(
            f"cannot write the bundle {out} ({error.strerror or error})",
            "free some space or choose another --out; an earlier bundle is intact",
        ) from error
    return Exported(Bundle(out), tuple(proven), kept, tuple(rejected.rejections))


def _kept(earlier: Bundle | None, proven: Mapping[str, Proven]) -> tuple[str, ...]:
    if earlier is None:
        return ()
    return tuple(dict.fromkeys(a.format for a in earlier.manifest.artifacts if a.format not in proven))


def _manifest(
    run: Run,
    stages: tuple[StageInfo, ...],
    proven: Mapping[str, Proven],
    earlier: Bundle | None,
    kept: Sequence[str],
) -> Manifest:
    artifacts = [artifact for entry in proven.values() for artifact in entry.artifacts]
    end_to_end = {name: entry.end_to_end for name, entry in proven.items() if entry.end_to_end is not None}
    if earlier is not None:
        artifacts += [artifact for artifact in earlier.manifest.artifacts if artifact.format in kept]
        end_to_end |= {name: value for name, value in earlier.manifest.end_to_end.items() if name in kept}
    return Manifest(
        schema_version=SCHEMA_VERSION,
        vdeploy_version=__version__,
        created=now(),
        run=run.info.name,
        classes=CLASSES,
        threshold=run.info.threshold,
        temperature=run.info.temperature,
        bias=run.info.bias,
        clip=run.spec.to_dict(),
        clip_seconds=run.info.clip_seconds,
        stages=stages,
        metrics=run.metrics,
        artifacts=tuple(artifacts),
        source=Path(run.info.source).name,
        end_to_end=end_to_end,
    )
