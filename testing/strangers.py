"""Code that runs as another user of this machine, for tests of what such a user may do."""

from __future__ import annotations

import os
import subprocess
import sys

__all__ = ["MAY_CHANGE_USER", "run_as_stranger"]

STRANGER = 65534
"""The user `nobody`."""

MAY_CHANGE_USER = os.geteuid() == 0
"""Whether this process may run code as another user."""

_DROP = f"""
import os
os.setgroups([])
os.setgid({STRANGER})
os.setuid({STRANGER})
"""


def run_as_stranger(imports: str, code: str, *arguments: object, seconds: float = 60.0) -> str:
    """Runs code as another user, and gives what it prints.

    Args:
        imports: Statements that run before the change of the user, while packages can be read.
        code: Statements that run after it.
        arguments: What `sys.argv[1:]` holds.
        seconds: How long it may take.
    """
    command = [sys.executable, "-c", f"import sys\n{imports}\n{_DROP}\n{code}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
