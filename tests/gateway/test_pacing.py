"""Who is refused in a loop waits for the answers; others do not wait."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from testing.running_gateway import running_gateway
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.gateway.pacing import DELAY_S, Pace

REFUSED = {"Origin": "https://attacker.invalid"}
FLOOD = 40
LEAST_S = (FLOOD - 20.0) / (20.0 + 1 / DELAY_S) * 0.9
"""One client gets 20 answers at once, and then those 20 a second that do not wait and one after each delay."""


def test_the_first_answers_of_a_second_do_not_wait() -> None:
    now = 0.0
    pace = Pace(3.0, lambda: now)
    assert [pace.delay_s() for _ in range(5)] == [0.0, 0.0, 0.0, DELAY_S, DELAY_S]
    now = 1 / 3
    assert [pace.delay_s() for _ in range(2)] == [0.0, DELAY_S]
    now = 100.0
    assert [pace.delay_s() for _ in range(4)] == [0.0, 0.0, 0.0, DELAY_S]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "headers", "status"), [("/model", REFUSED, 403), ("/healthz", {}, 200)])
def test_a_flood_of_cheap_requests_is_slowed_down(
    tmp_path: Path, path: str, headers: dict[str, str], status: int
) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle", frames=4, size=32).root
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle)) as gateway, gateway.client() as client:
        started = time.monotonic()
        answers = [client.get(path, headers=headers).status_code for _ in range(FLOOD)]
        assert time.monotonic() - started > LEAST_S
        assert set(answers) == {status}


@pytest.mark.slow
def test_a_flood_of_endless_headers_is_slowed_down(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle", frames=4, size=32).root
    with running_gateway(tmp_path / "spool", "--bundle", str(bundle)) as gateway:
        started = time.monotonic()
        for _ in range(FLOOD):
            with gateway.client() as client:
                assert client.get("/model", headers={f"X-{n}": "a" for n in range(200)}).status_code == 431
        assert time.monotonic() - started > LEAST_S
