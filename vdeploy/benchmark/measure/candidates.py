"""The candidates of a benchmark: each format in its own runtime, and other runtimes that read the same files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from vdeploy.artifacts.bundle import Artifact, Bundle
from vdeploy.benchmark.record import Workload
from vdeploy.core.errors import BundleError
from vdeploy.formats import FORMATS

__all__ = ["PEER_RUNTIMES", "Candidate", "find_candidates", "has_own_format"]

PEER_RUNTIMES = (
    ("onnx-fp32", "openvino", "OpenVINO, onnx-fp32"),
    ("onnx-int8", "openvino", "OpenVINO, onnx-int8"),
    ("savedmodel", "tensorflow-predict", "TensorFlow, model.predict"),
    ("savedmodel", "tensorflow-xla", "TensorFlow, XLA"),
)
"""Format, runtime other than the format's own, and name of the rows."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A format in a runtime.

    Attributes:
        name: Name of its rows.
        format: The format.
        runtime: The runtime.
        peer: Whether the runtime is another than the format's own.
        artifacts: The bundle's artifacts in the format, by stage.
    """

    name: str
    format: str
    runtime: str
    peer: bool
    artifacts: dict[str, Artifact]

    def runs(self, what: Workload) -> bool:
        """Whether the bundle holds the artifacts of a workload."""
        return set(self._stages(what)) <= set(self.artifacts)

    def size_bytes(self, what: Workload) -> int:
        """Size of the artifacts of a workload."""
        return sum(self.artifacts[stage].bytes for stage in self._stages(what))

    def precision(self, what: Workload) -> str:
        """Precision found in the artifacts; where both stages run, the extractor's, which does nearly all the work."""
        return self.artifacts[self._stages(what)[0]].precision

    @staticmethod
    def _stages(what: Workload) -> tuple[str, ...]:
        return (what,) if what in ("extractor", "classifier") else ("extractor", "classifier")


def find_candidates(bundle: Bundle, formats: Sequence[str] | None, *, peers: Sequence[str]) -> list[Candidate]:
    """Lists the candidates of a bundle, whether or not this machine has their runtimes.

    A peer is left out where one of the formats runs the same weights in the same runtime.

    Args:
        bundle: The bundle.
        formats: Names of formats; ``None`` for all formats of the bundle.
        peers: Runtimes in which files of another runtime are run as well.

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
    candidates = [Candidate(name, name, FORMATS[name].runtime, False, _artifacts(bundle, name)) for name in chosen]
    return candidates + [
        Candidate(name, format_name, runtime, True, _artifacts(bundle, format_name))
        for format_name, runtime, name in PEER_RUNTIMES
        if format_name in held and runtime in peers and not has_own_format(chosen, format_name, runtime)
    ]


def has_own_format(formats: Iterable[str], peer: str, runtime: str) -> bool:
    """Whether one of the formats is made for a runtime, in the precision of a peer's format.

    Args:
        formats: Names of formats.
        peer: Format that the peer runs.
        runtime: Runtime of the peer.
    """
    own = (FORMATS[name] for name in formats if name in FORMATS)
    return any((kind.runtime, kind.precision) == (runtime, FORMATS[peer].precision) for kind in own)


def _artifacts(bundle: Bundle, name: str) -> dict[str, Artifact]:
    return {artifact.stage: artifact for artifact in bundle.manifest.artifacts if artifact.format == name}
