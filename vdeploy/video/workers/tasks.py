"""The tasks of decoder processes: each is a module with a function ``run``, loaded before a process is confined."""

from __future__ import annotations

import importlib
from typing import cast

from vdeploy.video.workers.messages import Task

__all__ = ["TASKS", "load_task"]

TASKS = {
    "clip": "vdeploy.video.workers.clip_task",
    "live": "vdeploy.video.workers.live_task",
    "reader": "vdeploy.video.workers.reader_task",
    "samples": "vdeploy.timeline.sampling_task",
    "upload": "vdeploy.gateway.decoding.decode",
}
"""Module of each task."""


def load_task(name: str) -> Task:
    """Import the module of a task."""
    return cast("Task", importlib.import_module(TASKS[name]))
