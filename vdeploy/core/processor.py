"""Name and clocks of this machine's processor."""

from __future__ import annotations

import platform
import re
from pathlib import Path

__all__ = ["cpu_clocks_mhz", "cpu_name"]


def cpu_name() -> str:
    """Model name of the processor."""
    names = re.findall(r"^model name\s*: *(.+)$", _cpu_info(), re.MULTILINE)
    return names[0] if names else platform.processor() or platform.machine()


def cpu_clocks_mhz() -> tuple[float, ...]:
    """Present clock of each core; empty where it is unknown."""
    clocks = re.findall(r"^cpu MHz\s*: *([\d.]+)$", _cpu_info(), re.MULTILINE)
    return tuple(round(float(clock), 1) for clock in clocks)


def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
