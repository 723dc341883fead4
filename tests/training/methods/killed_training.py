"""Trainings, and other long tasks, that end before their time: by an error between two epochs, or by SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from training.engine.trainer import Trainer

__all__ = ["interrupt_before", "kill_when_written"]


class _Interrupted(Exception):
    pass


def interrupt_before(epoch: int, monkeypatch: pytest.MonkeyPatch, train: Callable[[], object]) -> None:
    """Runs a training that ends before an epoch begins."""
    train_epoch = Trainer._train_epoch

    def interrupt(self: Trainer, number: int) -> float:
        if number == epoch:
            raise _Interrupted
        return train_epoch(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupt)
        with pytest.raises(_Interrupted):
            train()


def kill_when_written(pattern: str, module: str, folder: Path, *options: str, function: str = "trained") -> None:
    """Runs ``trained(folder, *options)`` of a test module, and sends SIGKILL when a file of the folder is there.

    Args:
        pattern: Of the file, in the folder.
        module: The test module.
        folder: The folder.
        options: Further arguments.
        function: The function, if it has another name.
    """
    code = f"from pathlib import Path; from {module} import {function}; {function}(Path({str(folder)!r}), *{options!r})"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": paths}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 90
        while not list(folder.glob(pattern)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
