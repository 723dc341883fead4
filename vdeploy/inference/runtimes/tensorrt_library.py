"""TensorRT's two libraries: `tensorrt`, which needs a GPU, and `tensorrt_rtx`, which builds for RTX cards without."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

from vdeploy.artifacts.file_headers.tensorrt import LibraryName
from vdeploy.core.errors import DeployError, MissingExtraError
from vdeploy.core.lazy_imports import require

__all__ = ["Library", "MessageLog", "load_library", "message_logger"]

_OLDEST: dict[LibraryName, tuple[int, int]] = {"tensorrt": (10, 12), "tensorrt_rtx": (1, 1)}
_EXTRAS: dict[LibraryName, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
_PURPOSES: dict[LibraryName, str] = {
    "tensorrt": "building or running a TensorRT engine, on a machine with the GPU that it is for,",
    "tensorrt_rtx": "building a TensorRT engine for RTX cards, on any machine, or running it on such a card",
}


@dataclasses.dataclass(frozen=True)
class Library:
    """An imported TensorRT.

    Attributes:
        name: Which of the two.
        module: Its Python module; both have the same API but for the few things that are asked for by name.
        version: For example ``"1.7.1.116"``.
    """

    name: LibraryName
    module: Any
    version: str

    @property
    def extra(self) -> str:
        """The extra of vdeploy that brings it."""
        return _EXTRAS[self.name]

    @property
    def capabilities(self) -> tuple[int, ...]:
        """Compute capabilities that it builds for without being on such a GPU, as 86 for 8.6; none for `tensorrt`."""
        members = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        return tuple(sorted(int(name[2:]) for name in members if name.startswith("SM")))


@dataclasses.dataclass
class MessageLog:
    """What a library said.

    Attributes:
        lines: Everything but verbose messages, each with its severity.
        errors: The errors among them, without severity.
    """

    lines: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)

    @property
    def first_error(self) -> str:
        """The first error, or that there is none."""
        return self.errors[0] if self.errors else "the library gave no reason"


def load_library(name: LibraryName) -> Library:
    """Imports one of the libraries.

    Raises:
        MissingExtraError: It is not installed.
        DeployError: It is installed, but cannot be loaded or is too old.
    """
    try:
        module: ModuleType = require(name, extra=_EXTRAS[name], purpose=_PURPOSES[name])
    except MissingExtraError:
        raise
    except (ImportError, OSError) as error:
        raise DeployError(
            f"the Python package {name} is there but cannot be loaded ({error})",
            f"mend it: pip install --force-reinstall 'vdeploy[{_EXTRAS[name]}]'",
        ) from error
    version = str(module.__version__)
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        raise DeployError(
            f"{name} is {version}, older than {oldest}", f"run: pip install --upgrade 'vdeploy[{_EXTRAS[name]}]'"
        )
    return Library(name, module, version)


def message_logger(library: Library) -> tuple[Any, MessageLog]:
    """Makes a logger for a library that prints nothing and remembers everything worth reading."""
    trt, log = library.module, MessageLog()

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.INFO):
                log.lines.append(f"{severity.name}: {message}")
            if int(severity) <= int(trt.ILogger.ERROR):
                log.errors.append(message)

    return Logger(), log
