"""Ports to listen on: free ones are found, and one that is taken is refused."""

from __future__ import annotations

import socket

import pytest

from vdeploy.core.errors import ServerError
from vdeploy.triton.server.ports import check_ports, free_ports


def test_free_ports_differ_and_can_be_taken() -> None:
    found = free_ports(8)
    assert len(set(found)) == 8
    check_ports("127.0.0.1", {str(index): port for index, port in enumerate(found)})


def test_what_is_taken_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = free_ports(1)
    monkeypatch.setattr("vdeploy.triton.server.ports._CANDIDATES", range(first, first + 1))
    with socket.create_server(("127.0.0.1", first)), pytest.raises(ServerError, match=r"has no 1 free ports"):
        free_ports(1)


def test_a_port_that_is_taken_is_refused_by_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 cannot be taken for grpc") as caught:
            check_ports("127.0.0.1", {"http": 0, "grpc": port})
    assert caught.value.hint.endswith("--grpc-port")
