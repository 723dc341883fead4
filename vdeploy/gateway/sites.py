"""Which Host and Origin headers are accepted: protection from DNS rebinding and from other sites' pages."""

from __future__ import annotations

import ipaddress
import socket
import urllib.parse
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from vdeploy.core.errors import GatewayError
from vdeploy.gateway.middleware import problem_response
from vdeploy.gateway.problems import Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["SiteGuard", "check_exposure", "is_loopback"]

_PORTS = {"http": 80, "https": 443}
_FOREIGN_SITES = {"cross-site", "same-site"}


class SiteGuard:
    """ASGI middleware that refuses requests for other hosts, and requests that pages of other sites make.

    A name that an attacker owns may resolve to this machine (DNS rebinding); an address cannot, so addresses are
    always accepted as a host. Where keys are needed any host is, unless hosts are listed: a page has no key.

    Args:
        app: The application.
        names: Names under which the gateway may be reached, also behind a proxy.
        listens_on: The address or name that it listens on.
        any_host: Whether it may be reached under other names too.
    """

    def __init__(
        self, app: ASGIApp, names: Iterable[str] = (), *, listens_on: str = "localhost", any_host: bool = False
    ) -> None:
        self._app = app
        self._names = {name.lower().rstrip(".") for name in names}
        self._hosts = self._names | {"localhost", listens_on.lower()}
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; see the ASGI specification."""
        if scope["type"] == "http":
            problem = self._host_problem(scope) or self._site_problem(scope)
            if problem is not None:
                await problem_response(problem, scope["state"]["request_id"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _host_problem(self, scope: Scope) -> Problem | None:
        given = Headers(scope=scope).getlist("host")
        if len(given) > 1:
            return Problem(400, "invalid_request", "the request has several Host headers")
        if not given or self._any_host:
            return None
        name, _ = _split(given[0])
        if name in self._hosts or _is_address(name):
            return None
        return Problem(
            421,
            "host_not_allowed",
            "this gateway is not known under the host of the request",
            "the operator lists further names: --allowed-host NAME",
            headers={"Connection": "close"},
        )

    def _site_problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        is_navigation = scope["method"] in {"GET", "HEAD"} and headers.get("sec-fetch-mode") == "navigate"
        is_foreign = headers.get("sec-fetch-site") in _FOREIGN_SITES and not is_navigation
        origin = headers.get("origin")
        if origin is not None and not self._is_own(origin, headers.get("host", "")):
            is_foreign = True
        if not is_foreign:
            return None
        return Problem(
            403,
            "cross_site",
            "the request comes from the page of another site",
            "open the gateway's own page, or send the request from a program",
            headers={"Connection": "close"},
        )

    def _is_own(self, origin: str, host: str) -> bool:
        scheme, _, place = origin.partition("://")
        name, port = _split(place)
        own_name, own_port = _split(host)
        default = _PORTS.get(scheme)
        same = (name, port or default) == (own_name, own_port or default)
        return bool(default and name) and (same or name in self._names)


def check_exposure(host: str, *, has_keys: bool, insecure: bool) -> None:
    """Refuse to listen beyond this machine without API keys.

    Args:
        host: Address or name to listen on.
        has_keys: Whether every request needs an API key.
        insecure: Whether the operator accepts that everyone may send videos and watch cameras.

    Raises:
        GatewayError: The host can be reached from other machines, and there are no keys.
    """
    if has_keys or insecure or is_loopback(host):
        return
    raise GatewayError(
        f"--host {host or repr(host)} lets other machines in, and there are no API keys",
        "make keys with: vdeploy gateway keys add NAME, and give --api-keys FILE; --insecure goes without",
    )


def is_loopback(host: str) -> bool:
    """Whether a host, an address or a name, stands for this machine alone."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)} if host else set()
        return bool(found) and all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)
    except (OSError, ValueError):
        return False


def _split(place: str) -> tuple[str, int | None]:
    """Name and port of ``HOST``, ``HOST:PORT`` or ``[ADDRESS]:PORT``; an empty name if it is none of them."""
    try:
        parts = urllib.parse.urlsplit(f"//{place}")
        return (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return "", None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
