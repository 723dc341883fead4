"""The tiny bundle with its stages in the OpenVINO format as well."""

from __future__ import annotations

from vdeploy.artifacts.bundle import MANIFEST, Bundle, digest_of, size_of
from vdeploy.core.files import write_json
from vdeploy.export.openvino.convert import onnx_to_openvino

__all__ = ["with_openvino"]


def with_openvino(bundle: Bundle) -> Bundle:
    """Writes `openvino-fp32` of both stages from the bundle's `onnx-fp32`, and opens the bundle again."""
    values = bundle.manifest.model_dump(mode="json")
    for artifact in [entry for entry in values["artifacts"] if entry["format"] == "onnx-fp32"]:
        folder = bundle.root / artifact["stage"] / "openvino-fp32" / "model"
        onnx_to_openvino(bundle.root / artifact["path"], folder)
        changed = {
            "format": "openvino-fp32",
            "path": folder.relative_to(bundle.root).as_posix(),
            "sha256": digest_of(folder),
            "bytes": size_of(folder),
        }
        values["artifacts"].append(artifact | changed)
    write_json(bundle.root / MANIFEST, values)
    return Bundle(bundle.root)
