"""HTTP requests that carry secrets: they follow no redirection, and no proxy leads to this machine itself."""

from __future__ import annotations

import ipaddress
import urllib.parse
import urllib.request

__all__ = ["direct_opener"]


def direct_opener(address: str) -> urllib.request.OpenerDirector:
    """An opener for requests to one server.

    A redirection is an `urllib.error.HTTPError`, so that headers and bodies reach no other server. The environment's
    proxies are used, except for a server on this machine.

    Args:
        address: A valid ``http://`` or ``https://`` address.
    """
    host = urllib.parse.urlsplit(address).hostname or ""
    proxies = [urllib.request.ProxyHandler({})] if _is_loopback(host) else []
    return urllib.request.build_opener(_NoRedirects, *proxies)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
