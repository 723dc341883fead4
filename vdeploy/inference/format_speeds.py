"""How fast the formats of a bundle are on this machine, as `vdeploy benchmark` has measured them.

A record lies in the cache, one for each bundle and machine; the bundle stays as it was exported and signed.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.processor import cpu_name
from vdeploy.core.progress import say
from vdeploy.formats import FORMATS
from vdeploy.inference.machine_record import MachineRecord, read_record
from vdeploy.inference.runtimes.base import available_cores
from vdeploy.inference.runtimes.registry import choose_format, is_installed

__all__ = ["Comparison", "FastestFormat", "SpeedRecord", "fastest_format", "fastest_here", "load_speeds"]


class Comparison(BaseModel):
    """Formats of one precision that were measured side by side."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measured: str = Field(pattern=r"^\d{4}-\d\d-\d\dT", description="when, ISO 8601 with time zone")
    clip_ms: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        description="median milliseconds from frames to probabilities, by format"
    )

    def fastest_first(self, names: Iterable[str] | None = None) -> list[str]:
        """Formats with their speeds, such as ``"onnx-int8: 607 ms"``.

        Args:
            names: Formats that were measured; all of them if left out.
        """
        speeds = sorted((self.clip_ms[name], name) for name in names or self.clip_ms)
        return [f"{name}: {speed:{'.0f' if speed >= 100 else '.3g'}} ms" for speed, name in speeds]


class SpeedRecord(MachineRecord):
    """What is known of the formats of a bundle on this machine."""

    folder: ClassVar[str] = "speeds"

    kind: Literal["vdeploy format speeds"] = "vdeploy format speeds"
    schema_version: Literal["1.0"] = "1.0"
    comparisons: dict[str, Comparison] = Field({}, description="by precision")


@dataclasses.dataclass(frozen=True)
class FastestFormat:
    """The format to take.

    Attributes:
        name: The format.
        reason: Why, or what to do in order to know; empty where there is nothing to choose.
        measured: Whether the record has decided.
    """

    name: str
    reason: str = ""
    measured: bool = False


def load_speeds(bundle: Bundle) -> SpeedRecord:
    """Reads what the benchmark has measured of a bundle on this machine.

    A file that does not count is reported in a line; see `read_record`.

    Args:
        bundle: The bundle.

    Returns:
        The record; one without comparisons where there is none.
    """
    cpu, cores = cpu_name(), available_cores()
    found = read_record(SpeedRecord, bundle.manifest.digest, cpu, cores, _command(bundle.root))
    return found or SpeedRecord(bundle_sha256=bundle.manifest.digest, cpu=cpu, cores=cores)


def fastest_format(record: SpeedRecord, root: Path, usual: str, candidates: Sequence[str]) -> FastestFormat:
    """Chooses among formats of one precision.

    Args:
        record: What was measured.
        root: The bundle's folder, for the command that measures it.
        usual: The format that is taken where nothing is known; it has that precision.
        candidates: Formats that the bundle holds and that can be run, of that precision.

    Returns:
        The fastest candidate that was measured; the usual one where that was not compared with another.
    """
    compared = record.comparisons.get(FORMATS[usual].precision)
    clip_ms = {name: compared.clip_ms[name] for name in candidates if name in compared.clip_ms} if compared else {}
    if compared and len(clip_ms) > 1 and (usual in clip_ms or usual not in candidates):
        first, *others = compared.fastest_first(clip_ms)
        reason = f"{first} a clip here, {', '.join(others)}, measured {compared.measured[:10]}"
        return FastestFormat(min(clip_ms, key=clip_ms.__getitem__), reason, measured=True)
    others = [name for name in candidates if name != usual]
    if not others or usual not in candidates:
        return FastestFormat(usual)
    verb = "is" if len(others) == 1 else "are"
    return FastestFormat(
        usual, f"{usual}; whether {', '.join(others)} {verb} faster here is measured by {_command(root)}"
    )


def fastest_here(bundle: Bundle) -> str:
    """Chooses the format to run in this process: the fastest of the usual format's precision, from the record.

    Args:
        bundle: The bundle.

    Raises:
        BundleError: The bundle holds no format with both stages.
    """
    usual = choose_format(bundle, None)
    if usual not in FORMATS:
        return usual
    held = [FORMATS[name] for name in bundle.manifest.formats if name in FORMATS]
    same = [kind for kind in held if kind.precision == FORMATS[usual].precision]
    candidates = [kind.name for kind in same if is_installed(kind)]
    if len(candidates) < 2:
        return usual
    found = fastest_format(load_speeds(bundle), bundle.root, usual, candidates)
    if found.measured:
        say(f"format: {found.reason}")
    return found.name


def _command(root: Path) -> str:
    return f"vdeploy benchmark {shlex.quote(str(root))}"
