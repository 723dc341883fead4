"""What a preflight finds, a line each, and what it knows of where a plan is to be served."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from vdeploy.core.errors import RepositoryError
from vdeploy.inference.format_speeds import SpeedRecord
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.server.install import TritonInstall

__all__ = ["Check", "Surroundings", "refuse_failures"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        subject: What, in a word.
        passed: Whether it is right, as far as it is known.
        detail: What was found.
        remedy: What to do where it is wrong.
    """

    subject: str
    passed: bool
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{'ok' if self.passed else 'failed'}: {self.subject}: {self.detail}"


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """Where a plan is to be served.

    Attributes:
        target: What is known of the server.
        install: The server; `None` where it is elsewhere.
        host: Address to listen on.
        ports: Ports by name, where a server is to be started.
        cores: Cores of its machine; `None` where that is not known.
        memory: Bytes of memory that it may take; `None` where that is not known.
        speeds: What was measured of the bundle on its machine; `None` where that is not this one.
    """

    target: Target = dataclasses.field(default_factory=Target)
    install: TritonInstall | None = None
    host: str = "127.0.0.1"
    ports: Mapping[str, int] = dataclasses.field(default_factory=dict)
    cores: int | None = None
    memory: int | None = None
    speeds: SpeedRecord | None = None


def refuse_failures(checks: Iterable[Check]) -> None:
    """Raises what failed first, and says how many others did.

    Raises:
        RepositoryError: A check failed.
    """
    failed = [check for check in checks if not check.passed]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise RepositoryError(f"{failed[0].subject}: {failed[0].detail}{more}", failed[0].remedy)
