"""The ways to run a bundle: each of its formats in the runtime that it is for, and peers that read the same files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from vdeploy.artifacts.bundle import Artifact, Bundle
from vdeploy.benchmark.record import IN_PROCESS, Row, What
from vdeploy.core.errors import BundleError
from vdeploy.export.verification.rejected_formats import REJECTED
from vdeploy.formats import FORMATS

__all__ = ["Way", "find_ways", "missing_peers", "rejected_rows"]

_PEERS = (
    ("onnx-fp32", "openvino", "OpenVINO, onnx-fp32"),
    ("onnx-int8", "openvino", "OpenVINO, onnx-int8"),
    ("savedmodel", "tensorflow-predict", "TensorFlow, model.predict"),
    ("savedmodel", "tensorflow-xla", "TensorFlow, XLA"),
)
"""The format that is run, the runtime, and what the row is called."""


@dataclasses.dataclass(frozen=True)
class Way:
    """A format in a runtime.

    Attributes:
        name: What its rows are called.
        format: The format.
        runtime: The runtime.
        peer: Whether the runtime is not the format's own.
        artifacts: The bundle's artifacts in the format, by stage.
    """

    name: str
    format: str
    runtime: str
    peer: bool
    artifacts: dict[str, Artifact]

    def runs(self, what: What) -> bool:
        """Whether the bundle holds what it needs."""
        return set(self._stages(what)) <= set(self.artifacts)

    def size_bytes(self, what: What) -> int:
        """Size of the files."""
        return sum(self.artifacts[stage].bytes for stage in self._stages(what))

    def precision(self, what: What) -> str:
        """Precision that was found in the files; where both stages run, the extractor's, which does nearly all."""
        return self.artifacts[self._stages(what)[0]].precision

    @staticmethod
    def _stages(what: What) -> tuple[str, ...]:
        return (what,) if what in ("extractor", "classifier") else ("extractor", "classifier")


def find_ways(bundle: Bundle, formats: Sequence[str] | None, *, peers: Sequence[str]) -> list[Way]:
    """The ways that a bundle's files allow, whether or not this machine has the runtime.

    A peer is left out where one of the formats is the same weights in the same runtime: it would be measured twice.

    Args:
        bundle: The bundle.
        formats: Names of formats; ``None`` for all that the bundle holds.
        peers: Runtimes of other formats that run the bundle's files, too.

    Raises:
        BundleError: The bundle does not hold a format.
    """
    held = list(dict.fromkeys(artifact.format for artifact in bundle.manifest.artifacts))
    for name in formats or ():
        if name not in held:
            bundle.artifact("extractor", name)
    chosen = [name for name in (formats or held) if name in FORMATS]
    if not chosen:
        raise BundleError(f"{bundle.root} holds no format that this vdeploy runs", "export the run again")
    ways = [Way(name, name, FORMATS[name].runtime, False, _artifacts(bundle, name)) for name in chosen]
    return ways + [
        Way(name, format_name, runtime, True, _artifacts(bundle, format_name))
        for format_name, runtime, name in _PEERS
        if format_name in held and runtime in peers and not _has_own(chosen, format_name, runtime)
    ]


def missing_peers(bundle: Bundle, peers: Sequence[str], threads: int) -> list[Row]:
    """Rows of the peers, of those that were asked for, whose format the bundle does not hold."""
    held = {artifact.format for artifact in bundle.manifest.artifacts}
    return [
        Row(
            what="pipeline",
            where=IN_PROCESS,
            name=name,
            format=format_name,
            peer=True,
            precision=FORMATS[format_name].precision,
            runtime=runtime,
            batch=1,
            threads=threads,
            status="absent",
            reason=f"the bundle holds no {format_name}; export it: vdeploy export RUN --format {format_name}",
        )
        for format_name, runtime, name in _PEERS
        if format_name not in held and runtime in peers and not _has_own(held, format_name, runtime)
    ]


def rejected_rows(bundle: Bundle, threads: int) -> list[Row]:
    """Rows of the formats that an export has refused and kept aside: shown with the reason, never timed.

    Raises:
        BundleError: What lies beside the bundle cannot be read.
    """
    file = Path(f"{bundle.root}.rejected") / REJECTED
    if not file.is_file():
        return []
    try:
        rejections = {str(entry["format"]): str(entry["reason"]) for entry in json.loads(file.read_text("utf-8"))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{file} cannot be read ({error})", "export the run again, or remove it") from error
    held = {artifact.format for artifact in bundle.manifest.artifacts}
    return [
        Row(
            what="pipeline",
            where=IN_PROCESS,
            name=name,
            format=name,
            precision=FORMATS[name].precision,
            runtime=FORMATS[name].runtime,
            batch=1,
            threads=threads,
            status="failed parity",
            reason=reason,
        )
        for name, reason in rejections.items()
        if name in FORMATS and name not in held
    ]


def _has_own(formats: Iterable[str], peer: str, runtime: str) -> bool:
    """Whether one of the formats is in a peer's precision and made for its runtime."""
    own = (FORMATS[name] for name in formats if name in FORMATS)
    return any((kind.runtime, kind.precision) == (runtime, FORMATS[peer].precision) for kind in own)


def _artifacts(bundle: Bundle, name: str) -> dict[str, Artifact]:
    return {artifact.stage: artifact for artifact in bundle.manifest.artifacts if artifact.format == name}
