"""Formats that failed: their files and the reasons, kept aside in ``BUNDLE.rejected`` and never listed as good."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from vdeploy.core.errors import BundleError, ParityError, UserError
from vdeploy.core.files import publish_folder, staging_folder, write_json
from vdeploy.core.progress import say
from vdeploy.formats import Format

__all__ = ["REJECTED", "RejectedFolder", "Rejection"]

REJECTED = "rejected.json"


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A format that failed.

    Attributes:
        format: Its name.
        reason: Why, in one line.
        evidence: What was measured, JSON-ready.
        folder: Where its files are kept.
    """

    format: str
    reason: str
    evidence: dict[str, Any]
    folder: str


class RejectedFolder:
    """The folder beside a bundle for what failed; a context manager.

    Leaving it publishes what was taken, also when an error passes through, and removes what an earlier export left.

    Args:
        out: Folder of the bundle.

    Attributes:
        rejections: What was taken.

    Raises:
        BundleError: A folder of that name is there, but no export has written it.
    """

    def __init__(self, out: Path) -> None:
        self._final = out.with_name(f"{out.name}.rejected")
        self._stack = contextlib.ExitStack()
        self._errors: list[UserError] = []
        self.rejections: list[Rejection] = []
        if self._final.exists() and not (self._final / REJECTED).is_file():
            raise BundleError(f"{self._final} is in the way: no export has written it", "move it away")

    @property
    def first(self) -> UserError:
        """The first error, with the place of what was kept."""
        error = self._errors[0]
        error.hint = f"see {self._final}" if not error.hint else f"{error.hint}; see {self._final}"
        return error

    def __enter__(self) -> RejectedFolder:
        self._staged = self._stack.enter_context(staging_folder(self._final))
        return self

    def take(self, kind: Format, error: UserError, staged: Path) -> None:
        """Takes a format's files out of a new bundle.

        Args:
            kind: The format.
            error: Why it failed.
            staged: Folder of the new bundle.
        """
        say(f"export: {kind.name} is rejected: {error.message}")
        evidence = error.evidence if isinstance(error, ParityError) else {}
        for stage in kind.stages:
            folder = staged / stage / kind.name
            if folder.is_dir():
                target = self._staged / stage / kind.name
                target.parent.mkdir(exist_ok=True)
                folder.rename(target)
                with contextlib.suppress(OSError):
                    folder.parent.rmdir()
        self._errors.append(error)
        self.rejections.append(Rejection(kind.name, str(error), evidence, str(self._final)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if self.rejections:
                write_json(self._staged / REJECTED, [dataclasses.asdict(rejection) for rejection in self.rejections])
                publish_folder(self._staged, self._final)
            elif error is None:
                shutil.rmtree(self._final, ignore_errors=True)
