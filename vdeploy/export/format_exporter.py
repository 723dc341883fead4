"""Making one format after the other: written, loaded again, proven."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from vdeploy.artifacts.bundle import Artifact, HeldOut, Parity, Stage, StageInfo, TensorSpec, digest_of, size_of
from vdeploy.artifacts.bundle.golden import GoldenClips
from vdeploy.artifacts.run import Run, toolchain
from vdeploy.core.progress import say
from vdeploy.export.intermediates import Intermediates
from vdeploy.export.memory import let_tensorflow_give_back
from vdeploy.export.options import ExportOptions
from vdeploy.export.reference_data import ReferenceData
from vdeploy.export.verification.reference import Reference
from vdeploy.export.verification.verifier import FEW_CLIPS, Verifier
from vdeploy.export.writer_api import Job, Writer, Written
from vdeploy.formats import Format
from vdeploy.inference.runtimes.base import Runtime
from vdeploy.models.shift_settings import past_frames
from vdeploy.models.weights.find import Weights

__all__ = ["FormatExporter", "Proven"]

STAGES: tuple[Literal["extractor", "classifier"], ...] = ("extractor", "classifier")


@dataclasses.dataclass(frozen=True)
class Proven:
    """A format that was written and computes what the run computes.

    Attributes:
        artifacts: Its stages.
        end_to_end: Verdicts of both stages together; ``None`` without held-out clips.
    """

    artifacts: tuple[Artifact, ...]
    end_to_end: HeldOut | None


class FormatExporter:
    """Writes and proves formats of one run.

    Args:
        run: The run.
        weights: The backbone's weights.
        formats: All that will be made, to know how many held-out clips are needed.
        options: The user's choices.
        staged: Folder of the new bundle.
        scratch: An empty folder that lives as long as the export.
    """

    def __init__(
        self,
        run: Run,
        weights: Weights,
        formats: Sequence[Format],
        options: ExportOptions,
        staged: Path,
        scratch: Path,
    ) -> None:
        say("export: load the run")
        let_tensorflow_give_back()
        self._staged = staged
        self._options = options
        self._reference = Reference(run, weights)
        few = FEW_CLIPS if all(kind.precision != "int8" for kind in formats) else None
        self._data = ReferenceData(self._reference, options, scratch, options.clips or few)
        self._verifier = Verifier(self._data, options.clips)
        self._intermediates = Intermediates(self._data, scratch)

    def golden(self) -> GoldenClips:
        """The clips that a deployment is proven with."""
        return self._data.golden()

    def stages(self) -> tuple[StageInfo, ...]:
        """What the manifest says of the stages."""
        run = self._reference.run
        heads: dict[str, Any] = {"extractor": run.backbone, "classifier": run.head}
        weights = {"extractor": _weights_in_words(run, self._reference.weights), "classifier": ""}
        granularity = {"extractor": run.backbone.granularity}
        infos = []
        for stage, recorded in zip(STAGES, run.info.stages, strict=True):
            taken, given = self._reference.tensors[stage]
            flops, parameters = self._intermediates.counts(stage)
            settings = {key: value for key, value in heads[stage].stage_settings.items() if key != "weights"}
            infos.append(
                StageInfo(
                    id=stage,
                    architecture=heads[stage].name,
                    settings=settings,
                    granularity=granularity.get(stage, "frame"),
                    input=taken,
                    output=given,
                    flops=flops,
                    parameters=recorded.parameters or parameters,
                    weights=weights[stage],
                    weights_sha256=recorded.sha256,
                    variant=recorded.sha256[:8] if stage == "extractor" and recorded.file else "",
                )
            )
        return tuple(infos)

    def make(self, kind: Format) -> Proven:
        """Writes and proves the stages of a format.

        Raises:
            DeployError: It cannot be written, is not what it promises, or does not compute what the run computes.
            MissingExtraError: What writes or runs it is not installed.
        """
        pieces: dict[Stage, tuple[Path, Written, Parity]] = {}
        runtimes: dict[Stage, Runtime] = {}
        for stage in self._stages(kind):
            path = self._staged / stage / kind.name / kind.file
            path.parent.mkdir(parents=True)
            say(f"export: {stage} in {kind.name}")
            written = _writer(kind)(Job(stage, kind, path, self._data, self._intermediates, self._options))
            self._reference.release_extractor()
            runtimes[stage] = self._verifier.open(kind, path, written)
            pieces[stage] = (path, written, self._verifier.stage(kind, stage, runtimes[stage], written))
        verdicts = self._verifier.verdicts(kind, runtimes)
        end_to_end = verdicts.pop("pipeline", None)
        artifacts = tuple(self._artifact(stage, kind, *piece, verdicts.get(stage)) for stage, piece in pieces.items())
        return Proven(artifacts, end_to_end)

    def _stages(self, kind: Format) -> Iterator[Stage]:
        """What to write in a format; only causal backbones have a streaming form."""
        run = self._reference.run
        past = past_frames(run.backbone.granularity, run.backbone.stage_settings, run.spec.frames)
        return (stage for stage in kind.stages if stage != "stream" or past)

    def _artifact(
        self, stage: Stage, kind: Format, path: Path, written: Written, parity: Parity, held_out: HeldOut | None
    ) -> Artifact:
        taken, given = self._reference.tensors[stage]
        length = written.details.get("buffer")
        buffers = [
            TensorSpec(name=name, dtype="float32", shape=(1, length)) for name in ("buffer", "next_buffer") if length
        ]
        return Artifact(
            stage=stage,
            format=kind.name,
            precision=written.precision,
            path=path.relative_to(self._staged).as_posix(),
            sha256=digest_of(path),
            bytes=size_of(path),
            inputs=(taken, *buffers[:1]),
            outputs=(given, *buffers[1:]),
            parity=parity,
            toolchain={**toolchain(), **{name: metadata.version(name) for name in written.packages}},
            details=dict(written.details),
            calibration=written.calibration,
            held_out=held_out,
        )


def _weights_in_words(run: Run, weights: Weights) -> str:
    """The source of a backbone's weights, and which blocks were fine-tuned."""
    blocks = run.info.stage("extractor").fine_tuned_blocks
    return f"{weights.source}, fine-tuned: {', '.join(blocks)}" if blocks else weights.source


def _writer(kind: Format) -> Writer:
    writer: Writer = importlib.import_module(f"vdeploy.export.{kind.writer}.writer").write
    return writer
