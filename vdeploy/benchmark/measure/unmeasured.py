"""Rows of formats that are not timed, with the reason: rejected by the export, missing, or not runnable here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdeploy.artifacts.bundle import Bundle
from vdeploy.benchmark.measure.candidates import PEER_RUNTIMES, has_own_format
from vdeploy.benchmark.record import IN_PROCESS, Row, Status
from vdeploy.core.errors import BundleError
from vdeploy.export.verification.rejected_formats import REJECTED
from vdeploy.formats import FORMATS

__all__ = ["missing_peers", "rejected_formats", "unmeasured_row"]


def unmeasured_row(name: str, format_name: str, status: Status, reason: str, threads: int, **fields: Any) -> Row:
    """Makes the row of a pipeline that is not timed.

    Args:
        name: Name of the row.
        format_name: Its format.
        status: Why it is not timed.
        reason: The same in a sentence.
        threads: Threads per call.
        **fields: Further fields of the row; left out, it is in process, in the format's own runtime and precision.
    """
    kind = FORMATS[format_name]
    defaults = {"where": IN_PROCESS, "precision": kind.precision, "runtime": kind.runtime}
    return Row(
        what="pipeline",
        name=name,
        format=format_name,
        batch=1,
        threads=threads,
        status=status,
        reason=reason,
        **defaults | fields,
    )


def missing_peers(bundle: Bundle, peers: Sequence[str], threads: int) -> list[Row]:
    """Rows of the peers whose format the bundle does not hold.

    Args:
        bundle: The bundle.
        peers: Runtimes that were asked for.
        threads: Threads per call.
    """
    held = {artifact.format for artifact in bundle.manifest.artifacts}
    return [
        unmeasured_row(
            name,
            format_name,
            "absent",
            f"the bundle holds no {format_name}; export it: vdeploy export RUN --format {format_name}",
            threads,
            peer=True,
            runtime=runtime,
        )
        for format_name, runtime, name in PEER_RUNTIMES
        if format_name not in held and runtime in peers and not has_own_format(held, format_name, runtime)
    ]


def rejected_formats(bundle: Bundle, threads: int) -> list[Row]:
    """Rows of the formats that an export rejected and keeps beside the bundle.

    Args:
        bundle: The bundle.
        threads: Threads per call.

    Raises:
        BundleError: The list of rejected formats cannot be read.
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
        unmeasured_row(name, name, "failed parity", reason, threads)
        for name, reason in rejections.items()
        if name in FORMATS and name not in held
    ]
