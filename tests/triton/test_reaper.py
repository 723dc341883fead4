"""The arguments that a reaper hides, and systems that hinder it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from testing.forbidden_calls import without_call
from vdeploy.core.child_python import python_command
from vdeploy.triton.server.hidden_arguments import HIDDEN_ARGUMENT

ROOT = Path(__file__).parents[2]

SHOW = (
    "import os, subprocess, sys; from pathlib import Path; subprocess.run([sys.executable, '-c', '']); "
    "print(sys.argv[1:], sorted(name for name in os.environ if 'HIDDEN' in name), "
    "Path('/proc/self/cmdline').read_bytes().split(b'\\0')[-3:-1])"
)

HIDDEN = (
    str(["seen", "--key=precious", "--more=also"]) + " [] " + str([f"{HIDDEN_ARGUMENT}{i}".encode() for i in (0, 1)])
)


def run(*, may_trace: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    names = [f"{HIDDEN_ARGUMENT}{index}" for index in range(2)]
    secrets = dict(zip(names, ("--key=precious", "--more=also"), strict=True))
    program = [sys.executable, "-c", SHOW, "seen", *names]
    command = python_command("vdeploy.triton.server.reaper", os.getpid(), "vdeploy-none-", "", *program)
    return subprocess.run(
        command if may_trace else without_call("ptrace", errno.EPERM, command),
        env=os.environ | {"LD_PRELOAD": ""} | secrets | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_hidden_arguments_reach_the_program_alone() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == HIDDEN


def test_they_do_where_ptrace_is_forbidden_as_well() -> None:
    done = run(may_trace=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == HIDDEN
    assert not list(Path(tempfile.gettempdir()).glob("vdeploy-loader-*"))


def test_what_the_program_starts_loads_no_library_first() -> None:
    done = run(may_trace=False)
    assert done.stderr.count("ld.so") == 1
    assert "ignored" in done.stderr


def test_a_system_that_forbids_it_is_told_and_nothing_starts() -> None:
    """The dynamic loader cannot be asked where it loads something else first."""
    done = run(may_trace=False, LD_PRELOAD="/missing/library.so")
    assert done.returncode == 1
    assert done.stdout == ""
    told = done.stderr[done.stderr.index("error: this") :]
    assert told.startswith("error: this system lets no process trace its own child")
    assert "VDEPLOY_VISIBLE_KEY=1" in told
    assert "precious" not in done.stderr


def test_the_reaper_needs_the_standard_library_alone() -> None:
    program = "import sys, vdeploy.triton.server.reaper; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("vdeploy.")}
    assert ours - {"vdeploy.triton", "vdeploy.triton.server"} == {
        f"vdeploy.triton.server.{name}" for name in ("confinement", "hidden_arguments", "reaper")
    }
