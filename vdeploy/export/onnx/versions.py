"""The versions of ONNX that are written: old enough for older servers."""

from __future__ import annotations

__all__ = ["IR_VERSION", "OPSET"]

OPSET = 17
"""The newest opset that ONNX Runtime 1.12 and later run, and with it every Triton release since 22.08."""

IR_VERSION = 8
"""The IR version that belongs to the opset; older ONNX Runtimes refuse newer files."""
