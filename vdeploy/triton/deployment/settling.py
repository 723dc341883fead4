"""Wait until Triton has done what it was asked for: unloaded a version, or completed what a killed process began."""

from __future__ import annotations

import time
from collections.abc import Iterable

from vdeploy.core.progress import say
from vdeploy.triton.client.model_control import ModelControl

__all__ = ["wait_until_drained", "wait_until_settled"]

POLL_SECONDS = 0.1
DRAIN_SECONDS = 15.0
SETTLED_SECONDS = 1.0
"""How long no model may change before nothing that a killed process has asked for is thought to be on its way."""


def wait_until_settled(control: ModelControl, models: Iterable[str]) -> None:
    """Waits until no model has changed for a while, or says that one still does.

    Args:
        control: The server.
        models: The models.
    """
    deadline = time.monotonic() + min(control.timeout_seconds, DRAIN_SECONDS)
    still_since = time.monotonic()
    while time.monotonic() - still_since < SETTLED_SECONDS:
        if any({"LOADING", "UNLOADING"} & set(control.states(model).values()) for model in models):
            still_since = time.monotonic()
        if time.monotonic() > deadline:
            say("rollout: Triton does not end what the interrupted deployment has asked for")
            return
        time.sleep(POLL_SECONDS)


def wait_until_drained(control: ModelControl, version: int, model: str) -> None:
    """Waits until a version that was replaced has answered its last request, and Triton has unloaded it.

    No request is lost where that takes too long: what runs already keeps its version. It does where a process of
    that version has died, for then Triton waits for it long.

    Args:
        control: The server.
        version: The version.
        model: The model that it is a version of.
    """
    deadline = time.monotonic() + min(control.timeout_seconds, DRAIN_SECONDS)
    while control.states(model).get(version, "UNLOADED") in {"READY", "UNLOADING"}:
        if time.monotonic() > deadline:
            say(f"rollout: Triton does not unload version {version} of {model}, which is no longer called")
            return
        time.sleep(POLL_SECONDS)
