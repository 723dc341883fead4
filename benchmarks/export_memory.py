"""How much memory does an ONNX export of the extractor take, measured against the size of the FP32 file?

One process exports once, from random weights to the file on disk, and reports its peak resident memory beyond what it
holds when the Keras network is loaded, which is told as well. For INT8, calibration on a few synthetic frames is part
of it, judging is not.

    python -m benchmarks.export_memory [--layer fc2] [--format onnx-fp32] [--json] [--out FILE]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path

from benchmarks.output import add_output_options, give
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
    add_output_options(parser)
    arguments = parser.parse_args()
    load_keras()
    imported = _resident_bytes()
    extractor = FeatureExtractor(arguments.layer, find_weights("random", arguments.layer))
    weights_bytes = 4 * extractor.network.count_params()
    loaded = _resident_bytes()
    with tempfile.TemporaryDirectory(prefix="vdeploy-memory-") as folder:
        file = Path(folder) / "model.onnx"
        _export(extractor, arguments.format, file)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - loaded
        found = {
            "layer": arguments.layer,
            "format": arguments.format,
            "precision": found_precision(file),
            "file_bytes": file.stat().st_size,
            "fp32_bytes": weights_bytes,
            "keras_bytes": loaded - imported,
            "peak_bytes": peak,
            "ratio": round(peak / weights_bytes, 2),
        }
    give(
        arguments,
        found,
        f"{found['layer']} {found['format']} ({found['precision']}): file {_mb(found['file_bytes'])} MB, Keras holds "
        f"{_mb(found['keras_bytes'])} MB, the export takes {_mb(peak)} MB more at its peak, {found['ratio']} times the "
        f"FP32 weights ({_mb(weights_bytes)} MB)",
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f}"


def _export(extractor: FeatureExtractor, kind: str, file: Path) -> None:
    model = extractor_to_onnx(extractor)
    if kind == "onnx-fp16":
        model = to_float16(model)
    elif kind.startswith("onnx-int8"):
        flavour = TENSORRT if kind.endswith("tensorrt") else CPU
        frames = synthetic_frames(1, 2, 224)
        good = Agreement(0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0)
        model = quantize(model, flavour, lambda: [{"frames": frames}], lambda _model, _quick: good).model
    write_onnx(model, file)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
