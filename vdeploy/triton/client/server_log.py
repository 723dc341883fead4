"""Extract the reason of a failure from a Triton log."""

from __future__ import annotations

import re
from pathlib import Path

from vdeploy.core.runtime_messages import without_source

__all__ = ["log_size", "reason_in"]

MAX_LENGTH = 400

_BROKEN_CONFIG = re.compile(
    r"Error parsing text-format inference\.ModelConfig: (?P<why>.+)\n"
    r".*failed to read text proto from (?P<file>[^\"\n]+)"
)
_NOBODYS_REQUEST = "[request id: <id_unknown>] "
_CRASHES = (
    re.compile(r"^error: (?P<why>.+)", re.MULTILINE),
    re.compile(r"^  what\(\):  (?P<why>.+)", re.MULTILINE),
)
_REASONS = (
    re.compile(r"error while loading shared libraries: .+"),
    re.compile(r"failed to load '.+' version \d+: (?:Internal: |Invalid argument: )?(?P<why>.+)"),
    re.compile(r"^E\d{4} [^\]]*\] (?!\"(?:CudaDriverHelper|unable to create stream))\"?(?P<why>.+)", re.MULTILINE),
    *_CRASHES,
)
"""From the most to the least specific; messages that every machine without a GPU logs are excluded."""


def log_size(log: Path) -> int:
    """Bytes that a log has so far, 0 where there is none; what comes later begins there."""
    try:
        return log.stat().st_size
    except OSError:
        return 0


def reason_in(log: Path, since: int = 0, *, crashed: bool = False) -> str:
    """Extracts the reason of a failure from a log.

    Args:
        log: Everything that `tritonserver` and its stubs have printed.
        since: The byte from which on it is read: what was logged earlier has another reason.
        crashed: Whether a signal has ended the server, which no failed load or request does.

    Returns:
        One line without a traceback, or `""` where the log has none.
    """
    try:
        text = log.read_bytes()[since:].decode(errors="replace")
    except OSError:
        return ""
    if not crashed and (broken := list(_BROKEN_CONFIG.finditer(text))):
        return f"{broken[-1]['file']}:{broken[-1]['why']}".removesuffix(".")
    for pattern in _CRASHES if crashed else _REASONS:
        if found := list(pattern.finditer(text)):
            last = found[-1]
            line: str = last["why"] if "why" in pattern.groupindex else last[0]
            line = line.removeprefix(_NOBODYS_REQUEST).split(r"\n", maxsplit=1)[0].split(" NOTE: ", maxsplit=1)[0]
            return without_source(line).rstrip('";.')[:MAX_LENGTH]
    return ""
