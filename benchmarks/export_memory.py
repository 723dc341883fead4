"""How much memory does an ONNX export of the extractor take, measured against the size of the FP32 file?

One process exports once, from random weights to the file on disk, and reports its peak resident memory less what the
imports take; the Keras network, which holds the weights as well, counts. For INT8, calibration on a few synthetic
frames is part of it, judging is not.

    python -m benchmarks.export_memory [--layer fc2] [--format onnx-fp32] [--json]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from pathlib import Path

from training.extractor import FeatureExtractor
from training.frameworks import load_keras
from training.weights import find_weights
from vdeploy.export.float16 import to_float16
from vdeploy.export.onnx import extractor_to_onnx
from vdeploy.export.onnx_file import write_onnx
from vdeploy.export.onnx_inspection import found_precision
from vdeploy.export.parity import synthetic_frames
from vdeploy.export.quantization import CPU, TENSORRT, Agreement, quantize

FORMATS = ("onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int8-tensorrt")


def main() -> None:
    """Exports once and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layer", default="fc2", choices=["avg", "avg45", "fc2"])
    parser.add_argument("--format", default="onnx-fp32", choices=FORMATS)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    load_keras()
    baseline = _resident_bytes()
    with tempfile.TemporaryDirectory(prefix="vdeploy-memory-") as folder:
        file = Path(folder) / "model.onnx"
        weights_bytes = _export(arguments.layer, arguments.format, file)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - baseline
        found = {
            "layer": arguments.layer,
            "format": arguments.format,
            "precision": found_precision(file),
            "file_bytes": file.stat().st_size,
            "fp32_bytes": weights_bytes,
            "peak_bytes": peak,
            "ratio": round(peak / weights_bytes, 2),
        }
    if arguments.json:
        json.dump(found, sys.stdout)
        return
    print(
        f"{found['layer']} {found['format']} ({found['precision']}): file {file_mb(found['file_bytes'])} MB, peak "
        f"{file_mb(peak)} MB, {found['ratio']} times the FP32 weights ({file_mb(weights_bytes)} MB)"
    )


def file_mb(count: int) -> str:
    """Bytes as a number of megabytes."""
    return f"{count / 1e6:,.0f}"


def _export(layer: str, kind: str, file: Path) -> int:
    """Exports, and returns the bytes of the weights in FP32."""
    extractor = FeatureExtractor(layer, find_weights("random", layer))
    weights_bytes = 4 * extractor.network.count_params()
    model = extractor_to_onnx(extractor)
    del extractor
    if kind == "onnx-fp16":
        model = to_float16(model)
    elif kind.startswith("onnx-int8"):
        flavour = TENSORRT if kind.endswith("tensorrt") else CPU
        frames = synthetic_frames(1, 2, 224)
        good = Agreement(0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0)
        model = quantize(model, flavour, lambda: [{"frames": frames}], lambda _model, _quick: good).model
    write_onnx(model, file)
    return weights_bytes


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
