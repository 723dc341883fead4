"""What a training runs on: one device, several of one machine, or several machines."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Literal

from vdeploy.core.errors import RecipeError, RunError
from vdeploy.core.lazy_imports import load_tensorflow

__all__ = ["barrier", "is_alone", "is_chief", "open_strategy"]


def open_strategy(devices: Literal["auto"] | Sequence[str]) -> Any:
    """Makes the strategy that runs the replicas of a training.

    With a cluster of several workers in the environment variable ``TF_CONFIG``, every worker's replicas train together
    (``MultiWorkerMirroredStrategy``); TensorFlow wants this called before anything is computed. Else two or more
    devices train together (``MirroredStrategy``), and one trains alone.

    Args:
        devices: ``"auto"``: all GPUs, or the CPU; or names such as ``("gpu:0", "gpu:1")`` or ``("cpu:0",)``.

    Returns:
        A ``tf.distribute.Strategy``.

    Raises:
        RecipeError: A device is not there, ``TF_CONFIG`` is damaged, or it is too late for what is asked for.
    """
    tf: Any = load_tensorflow()
    if len(_workers()) > 1:
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except (RuntimeError, ValueError, KeyError) as error:
            raise RecipeError(
                f"the cluster of TF_CONFIG cannot be joined ({error})", "check it, and set it before the program starts"
            ) from error
    if devices == "auto":
        names = [f"gpu:{index}" for index in range(len(tf.config.list_logical_devices("GPU")))] or ["cpu:0"]
    else:
        names = [name.lower() for name in devices]
        _check(names)
    if len(names) > 1:
        return tf.distribute.MirroredStrategy(
            names,
            cross_device_ops=None if names[0].startswith("gpu") else tf.distribute.ReductionToOneDevice(),
        )
    return tf.distribute.OneDeviceStrategy(names[0])


def is_alone() -> bool:
    """Whether ``TF_CONFIG`` names no further worker."""
    return len(_workers()) < 2


def is_chief() -> bool:
    """Whether this process writes what all workers share: the first worker does, and one that is alone."""
    if is_alone():
        return True
    task = json.loads(os.environ["TF_CONFIG"]).get("task", {})
    return bool(task.get("type") == "worker" and task.get("index") == 0)


def barrier(strategy: Any) -> None:
    """Waits until every worker has come here; a process that trains alone goes on at once.

    Args:
        strategy: What `open_strategy` returned.

    Raises:
        RunError: A worker has ended.
    """
    if is_alone():
        return
    tf: Any = load_tensorflow()

    def add_up() -> Any:
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.ones(()))

    try:
        strategy.run(tf.function(add_up, autograph=False))
    except tf.errors.OpError as error:
        raise RunError(
            f"another worker of TF_CONFIG has ended ({error.message.partition(chr(10))[0]})", "see what it printed"
        ) from error


def _workers() -> list[str]:
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return []
    try:
        return list(json.loads(text).get("cluster", {}).get("worker", []))
    except (ValueError, AttributeError, TypeError) as error:
        raise RecipeError(
            f"TF_CONFIG is no cluster description ({error})", "see TensorFlow's guide, or unset it"
        ) from error


def _check(names: Sequence[str]) -> None:
    """Makes sure that all devices are there; the CPU is divided if more than one of it is asked for."""
    tf: Any = load_tensorflow()
    cpus = [int(name.partition(":")[2] or 0) for name in names if name.startswith("cpu")]
    if cpus and max(cpus) > 0:
        _divide_cpu(max(cpus) + 1)
    there = [device.name.removeprefix("/device:").lower() for device in tf.config.list_logical_devices()]
    for name in names:
        if name not in there:
            raise RecipeError(
                f"training.devices asks for {name}, which is not there; TensorFlow sees {', '.join(there)}",
                "choose among these, or see: vdeploy doctor",
            )


def _divide_cpu(count: int) -> None:
    tf: Any = load_tensorflow()
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError:
        return
