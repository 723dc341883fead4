"""The arguments that a reaper hides, and a system on which it cannot."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from vdeploy.triton.server import reaper
from vdeploy.triton.server.reaper import HIDDEN_ARGUMENT

SHOW = (
    "import os, sys; from pathlib import Path; "
    "print(sys.argv[1:], sorted(name for name in os.environ if 'HIDDEN' in name), "
    "Path('/proc/self/cmdline').read_bytes().split(b'\\0')[-3:-1])"
)

WITHOUT_PTRACE = """
import ctypes, errno, runpy, sys
from vdeploy.triton.server import reaper as r
steps = (
    (r.BPF_LOAD, 0, 0, 0),
    (r.BPF_JUMP_IF_EQUAL, 0, 1, 101),
    (r.BPF_RETURN, 0, 0, r.SECCOMP_RET_SUCCESS | errno.EPERM),
    (r.BPF_RETURN, 0, 0, r.SECCOMP_RET_ALLOW),
)
code = ctypes.create_string_buffer(b"".join(r._BPF_STEP.pack(*step) for step in steps))
program = r._Program(len(steps), ctypes.addressof(code))
libc = r._libc()
assert libc.prctl(r.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert libc.prctl(r.PR_SET_SECCOMP, r.SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0) == 0
r.main(sys.argv[1:])
"""


def run(*start: str) -> subprocess.CompletedProcess[str]:
    names = [f"{HIDDEN_ARGUMENT}{index}" for index in range(2)]
    secrets = dict(zip(names, ("--key=precious", "--more=also"), strict=True))
    command = [sys.executable, *start, str(os.getpid()), "vdeploy-none-", "", sys.executable, "-c", SHOW]
    return subprocess.run(
        [*command, "seen", *names], env=os.environ | secrets, capture_output=True, text=True, timeout=60, check=False
    )


def test_hidden_arguments_reach_the_program_alone() -> None:
    done = run("-I", reaper.__file__)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(
        f"['seen', '--key=precious', '--more=also'] [] [b'{HIDDEN_ARGUMENT}0', b'{HIDDEN_ARGUMENT}1']"
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter has this machine's number of ptrace")
def test_a_system_that_forbids_it_is_told_and_nothing_starts() -> None:
    done = run("-c", WITHOUT_PTRACE)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: this system lets no process trace its own child")
    assert "VDEPLOY_VISIBLE_KEY=1" in done.stderr
    assert "precious" not in done.stderr


def test_the_reaper_needs_the_standard_library_alone() -> None:
    text = Path(reaper.__file__).read_text(encoding="utf-8")
    assert "import vdeploy" not in text
    assert "from vdeploy" not in text
