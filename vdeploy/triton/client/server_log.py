"""Extract the reason of a failure from a Triton log."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["reason_in"]

MAX_LENGTH = 400

_BROKEN_CONFIG = re.compile(
    r"Error parsing text-format inference\.ModelConfig: (?P<why>.+)\n"
    r".*failed to read text proto from (?P<file>[^\"\n]+)"
)
_NOBODYS_REQUEST = "[request id: <id_unknown>] "
_REASONS = (
    re.compile(r"error while loading shared libraries: .+"),
    re.compile(r"failed to load '.+' version \d+: (?:Internal: |Invalid argument: )?(?P<why>.+)"),
    re.compile(r"^E\d{4} [^\]]*\] (?!\"(?:CudaDriverHelper|unable to create stream))\"?(?P<why>.+)", re.MULTILINE),
    re.compile(r"^error: (?P<why>.+)", re.MULTILINE),
    re.compile(r"^  what\(\):  (?P<why>.+)", re.MULTILINE),
)
"""From the most to the least specific; messages that every machine without a GPU logs are excluded."""


def reason_in(log: Path) -> str:
    """Extracts the reason of a failure from a log.

    Args:
        log: Everything that `tritonserver` and its stubs have printed.

    Returns:
        One line without a traceback, or `""` where the log has none.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    if broken := _BROKEN_CONFIG.search(text):
        return f"{broken['file']}:{broken['why']}".removesuffix(".")
    for pattern in _REASONS:
        if found := list(pattern.finditer(text)):
            last = found[-1]
            line: str = last["why"] if "why" in pattern.groupindex else last[0]
            line = line.removeprefix(_NOBODYS_REQUEST).split(r"\n", maxsplit=1)[0].split(" NOTE: ", maxsplit=1)[0]
            return line.strip().rstrip('";.')[:MAX_LENGTH]
    return ""
