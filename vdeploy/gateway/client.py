"""Requests of the command line to a running gateway; needs the standard library alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, cast

from vdeploy.core.errors import GatewayError
from vdeploy.core.web_client import direct_opener

__all__ = ["shift_canary"]

_TIMEOUT_S = 30.0


def shift_canary(gateway: str, percent: float, key: str) -> dict[str, Any]:
    """Change the share of the requests that the canary of a gateway gets.

    Args:
        gateway: Address of the gateway.
        percent: 0 to 100.
        key: An administrator's API key.

    Returns:
        The gateway's answer: the share and both versions.

    Raises:
        GatewayError: The gateway does not answer, or refuses.
    """
    try:
        parts = urllib.parse.urlsplit(gateway)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise GatewayError(f"{gateway} is no address of a gateway", "give http://HOST:PORT or https://HOST:PORT")
    request = urllib.request.Request(  # noqa: S310  checked above
        f"{gateway.rstrip('/')}/admin/canary",
        json.dumps({"percent": percent}).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        method="PUT",
    )
    try:
        with direct_opener(gateway).open(request, timeout=_TIMEOUT_S) as answer:
            return cast("dict[str, Any]", json.load(answer))
    except urllib.error.HTTPError as error:
        message, hint = _explanation(error)
        raise GatewayError(f"the gateway {gateway} refuses: {message}", hint) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise GatewayError(f"no gateway answers at {gateway} ({reason})", "give its address with --gateway") from error


def _explanation(error: urllib.error.HTTPError) -> tuple[str, str]:
    try:
        problem = json.load(error)["error"]
        return str(problem["message"]), str(problem["hint"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}", "look at its log"
