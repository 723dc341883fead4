"""Commands of child processes that run Python, which import nothing of the working directory.

Python puts the working directory on ``sys.path`` where it runs a module (``-m``), so that a user's `numpy.py` or
`training/` would be imported. Option ``-P`` prevents that since Python 3.11 only. Isolated mode (``-I``) does on every
version, but leaves out the folders of ``PYTHONPATH`` and of the user's site-packages as well, which are passed instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["import_paths", "python_command"]

_BOOT = """
import runpy, sys
target, count = sys.argv[1], int(sys.argv[2])
sys.path[:] = sys.argv[3 : 3 + count]
sys.argv[1:] = sys.argv[3 + count :]
if target.endswith(".py"):
    sys.argv[0] = target
    runpy.run_path(target, run_name="__main__")
else:
    runpy.run_module(target, run_name="__main__", alter_sys=True)
"""


def python_command(target: str | Path, *arguments: object) -> list[str]:
    """Returns a command that runs a module or a file, in whatever working directory.

    Args:
        target: Name of a module, or path of a file that ends with ``.py``, which is run without its package.
        arguments: Arguments of the program.
    """
    paths = import_paths()
    return [sys.executable, "-I", "-c", _BOOT, str(target), str(len(paths)), *paths, *map(str, arguments)]


def import_paths() -> list[str]:
    """Returns the absolute folders of ``sys.path``, without the working directory unless this package lies in it."""
    package, here = Path(__file__).resolve().parents[2], Path.cwd()
    entries = [Path(entry) for entry in sys.path if entry and Path(entry).is_absolute()]
    kept = [str(entry) for entry in entries if entry.resolve() == package or entry.resolve() != here]
    return kept if any(Path(entry).resolve() == package for entry in kept) else [*kept, str(package)]
