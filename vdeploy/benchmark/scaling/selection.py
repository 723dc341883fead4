"""Chooses the scaling studies of a run or a bundle from the options of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vdeploy.benchmark.scaling.studies import bundle_studies, run_studies
from vdeploy.core.errors import BenchmarkError

if TYPE_CHECKING:
    from vdeploy.benchmark.scaling.measurements import Study

__all__ = ["DEFAULT_BATCHES", "choose_studies"]

DEFAULT_BATCHES = (16, 32, 48, 64, 96)

_MOST_DIGITS = 9
"""Of a number of clips or devices."""


def choose_studies(
    source: Path,
    *,
    batch: str | None = None,
    devices: str | None = None,
    clips: str | None = None,
    logical_cpus: bool = False,
    pipeline: bool = False,
    format_name: str | None = None,
    threads: int | None = None,
    seconds: float = 3.0,
) -> list[Study]:
    """Runs the requested studies, by default one over `DEFAULT_BATCHES`.

    Args:
        source: Folder of a run or of a bundle.
        batch: Clips per batch, ``"16,32"``.
        devices: Numbers of devices; for a run.
        clips: Numbers of clips; for a run.
        logical_cpus: See `vdeploy.benchmark.scaling.studies.run_studies`.
        pipeline: See `vdeploy.benchmark.scaling.studies.bundle_studies`; for a bundle, as the next two.
        format_name: The format to run.
        threads: Threads per call.
        seconds: Time for each position of an axis.

    Raises:
        BenchmarkError: The folder is neither a run nor a bundle, or an option does not apply to it or is no list of
            numbers.
    """
    for_runs = {"--devices": devices, "--clips": clips, "--logical-cpus": logical_cpus or None}
    for_bundles = {"--pipeline": pipeline or None, "--format": format_name, "--threads": threads}
    batches = _numbers("--batch", batch)
    if (source / "bundle.json").is_file():
        _refuse(source, "bundle", "run", for_runs)
        return bundle_studies(
            source,
            batches or DEFAULT_BATCHES,
            format_name=format_name,
            pipeline=pipeline,
            threads=threads,
            seconds=seconds,
        )
    if (source / "run.json").is_file():
        _refuse(source, "run", "bundle", for_bundles)
        by_devices, by_clips = _numbers("--devices", devices), _numbers("--clips", clips)
        wanted = batches or (() if by_devices or by_clips else DEFAULT_BATCHES)
        return run_studies(
            source,
            batches=wanted,
            devices=by_devices,
            clips=by_clips,
            logical_cpus=logical_cpus,
            seconds=seconds,
        )
    raise BenchmarkError(
        f"{source} is neither a run nor a bundle", "give a folder that vdeploy train or vdeploy export made"
    )


def _refuse(source: Path, kind: str, other: str, options: Mapping[str, object]) -> None:
    for option, value in options.items():
        if value is not None:
            raise BenchmarkError(f"{option} does not apply to {source}, a {kind}", f"give a {other}, or leave it out")


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    numbers = tuple(int(part) for part in parts if part.isdecimal() and len(part) <= _MOST_DIGITS and int(part) > 0)
    if len(numbers) < len(parts) or len(set(numbers)) < len(numbers):
        raise BenchmarkError(
            f"{option} {text} is no list of different positive whole numbers", f"write it like {option} 16,32,64"
        )
    return numbers
