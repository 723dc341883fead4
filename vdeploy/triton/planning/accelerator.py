"""Whether a server hands the parts of a graph over to TensorRT on the GPUs that it should."""

from __future__ import annotations

import re

from vdeploy.triton.planning.checks import Check
from vdeploy.triton.repository.options import ServingOptions

__all__ = ["check_accelerator"]

_RELEASE = (2, 57)
"""The first release, 25.04, that tells TensorRT which GPU to use (onnxruntime_backend, pull request 299)."""


def check_accelerator(options: ServingOptions, version: str) -> Check | None:
    """Checks that TensorRT runs on the GPUs of the instances.

    Triton's ONNX Runtime backend before 25.04 never passes `device_id` to the TensorRT provider, so that every instance
    runs on GPU 0, whatever the configuration says.

    Args:
        options: How the models are run.
        version: Version of the server, such as `2.51.0`; empty where it is not known.

    Returns:
        The check; `None` where nothing is handed over, or GPU 0 is the right one.
    """
    if not options.accelerate or options.gpus in {(), (0,)}:
        return None
    gpus, found = ",".join(map(str, options.gpus)), re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        return Check("accelerate", True, f"on GPUs {gpus}; a Triton before 25.04 (2.57) would use GPU 0 for all")
    if (int(found[1]), int(found[2])) >= _RELEASE:
        return Check("accelerate", True, f"TensorRT of Triton {version} takes GPUs {gpus}")
    return Check(
        "accelerate",
        False,
        f"Triton {version} does not tell TensorRT which GPU to use, and would use GPU 0 for {gpus}",
        "leave --accelerate out, choose --gpus 0, export engines, or use Triton 25.04 (2.57) or newer",
    )
