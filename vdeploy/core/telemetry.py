"""Usage statistics that libraries send or prepare to send, switched off before the libraries are imported."""

from __future__ import annotations

import os
import sys

__all__ = ["disable_telemetry"]

_VARIABLES = {
    # ONNX Runtime writes an identifier of the device and a queue of events into ~/.cache/Microsoft.
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def disable_telemetry() -> None:
    """Switches off the telemetry of ONNX Runtime, OpenVINO and Ray in this process and its children.

    A variable that the environment sets already keeps its value. OpenVINO reports each import through the package
    ``openvino_telemetry`` and falls back to a stub where that cannot be imported, so its import is blocked.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
