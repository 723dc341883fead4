"""Describes the machine of a benchmark: processor, memory, GPU, system and versions of packages."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata

from vdeploy.benchmark.record import Environment
from vdeploy.core.processor import cpu_clocks_mhz, cpu_name
from vdeploy.inference.runtimes.base import available_cores

__all__ = ["describe_machine", "gpu_and_driver"]

_PACKAGES = (
    *("ai-edge-litert", "keras", "numpy", "onnxruntime", "opencv-python-headless", "openvino", "tensorflow"),
    *("tensorflow-cpu", "tensorrt", "tensorrt-rtx", "tritonclient"),
)
_GPU_QUERY_SECONDS = 20


def describe_machine(threads: int) -> Environment:
    """Describes this machine in its present state.

    Args:
        threads: Threads per call.
    """
    gpu, driver = gpu_and_driver()
    return Environment(
        cpu=cpu_name(),
        cores=available_cores(),
        threads=threads,
        clocks_mhz=cpu_clocks_mhz(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpu=gpu,
        driver=driver,
        system=platform.platform(),
        python=platform.python_version(),
        versions=_versions(),
        load_average=os.getloadavg(),
    )


def gpu_and_driver() -> tuple[str | None, str | None]:
    """Name of the first NVIDIA GPU and version of its driver, from ``nvidia-smi``; ``None`` without one."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=_GPU_QUERY_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None, None
    name, _, driver = answer.partition("\n")[0].rpartition(", ")
    return name or None, driver or None


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
