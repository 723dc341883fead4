"""The command line. One module a command: parse, call, print. Heavy imports happen inside the commands."""

from __future__ import annotations

from vdeploy.cli.app import main

__all__ = ["main"]
