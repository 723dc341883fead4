"""From an ONNX file to TensorRT's network, and the shapes that an engine must take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdeploy.core.errors import ExportError
from vdeploy.export.tensorrt.options import EngineOptions

__all__ = ["Shapes", "input_shapes", "optimization_profile", "parse_network"]

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Smallest, usual and largest shape of an input."""


def parse_network(trt: Any, builder: Any, logger: Any, onnx: Path) -> Any:
    """Parses an ONNX file into a strongly typed network.

    Args:
        trt: The library.
        builder: Its builder.
        logger: Its logger.
        onnx: The file.

    Raises:
        ExportError: There is no such file, or TensorRT cannot parse it.
    """
    if not onnx.is_file():
        raise ExportError(f"there is no ONNX file {onnx}", "export to ONNX first")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        raise ExportError(f"TensorRT cannot parse {onnx} ({_reasons(parser)})", "export it to ONNX again")
    return network


def input_shapes(network: Any, options: EngineOptions) -> dict[str, Shapes]:
    """The shapes that each input of a network may have: the first axis is the batch, any other free axis the frames.

    Raises:
        ExportError: The batch of an input is fixed in the ONNX file.
    """
    shapes = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *rest = tensor.shape
        if batch >= 0:
            raise ExportError(
                f"the ONNX file fixes the batch of {tensor.name} at {batch}", "export it with a free batch"
            )
        axes = tuple(options.frames if length < 0 else int(length) for length in rest)
        smallest, usual, largest = options.batches
        shapes[str(tensor.name)] = ((smallest, *axes), (usual, *axes), (largest, *axes))
    return shapes


def optimization_profile(builder: Any, shapes: Mapping[str, Shapes]) -> Any:
    """TensorRT's profile of those shapes."""
    profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        profile.set_shape(name, smallest, usual, largest)
    return profile


def _reasons(parser: Any) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    places = [f"{error.node_operator()} {error.node_name()}".strip() or "the file" for error in errors]
    told = [f"{place}: {error.desc()}" for place, error in zip(places, errors, strict=True)]
    return "; ".join(told) or "no reason given"
