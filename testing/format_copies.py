"""Bundles that hold more formats than were made: copies of their ONNX files under other names."""

from __future__ import annotations

import shutil

from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.core.files import write_json

__all__ = ["with_formats"]


def with_formats(bundle: Bundle, *names: str) -> Bundle:
    """Copies both stages in `onnx-fp32` under the names of other formats, and opens the bundle again.

    Args:
        bundle: A bundle with `onnx-fp32`.
        names: Names of formats; only those of ONNX can be run.
    """
    values = bundle.manifest.model_dump(mode="json")
    for artifact in [entry for entry in values["artifacts"] if entry["format"] == "onnx-fp32"]:
        for name in names:
            file = bundle.root / artifact["stage"] / name / "model.onnx"
            file.parent.mkdir(parents=True)
            shutil.copyfile(bundle.root / artifact["path"], file)
            values["artifacts"].append(artifact | {"format": name, "path": file.relative_to(bundle.root).as_posix()})
    write_json(bundle.root / MANIFEST, values)
    return Bundle(bundle.root)
