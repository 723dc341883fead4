"""Ports to listen on: free ones are found, and one that is taken is refused."""

from __future__ import annotations

import socket

import pytest

from vdeploy.core.errors import ServerError
from vdeploy.triton.server.ports import check_ports, free_ports, resolve_host


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


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0")],  # noqa: S104
)
def test_names_become_numbers(host: str, address: str) -> None:
    assert resolve_host(host) == address


@pytest.mark.parametrize("host", ["no.such.host.invalid", "", "a b", "x" * 70])
def test_a_name_without_an_address_is_refused_in_a_line(host: str) -> None:
    with pytest.raises(ServerError, match=r"--host .* has no address .*give an address of this machine"):
        resolve_host(host)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ServerError, match=r"192.0.2.7 is no address of this machine; choose another with --host"):
        check_ports("192.0.2.7", {"grpc": 8001})
