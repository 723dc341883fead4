"""A command group with a default command: ``vdeploy benchmark BUNDLE`` and ``vdeploy benchmark compare``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

__all__ = ["DEFAULT", "DefaultVerbGroup"]

DEFAULT = "measure"
"""Name of the default command in the group."""


class DefaultVerbGroup(TyperGroup):
    """A group that runs the command `DEFAULT` unless the first argument names another command."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Creates the context of the group or of the default command."""
        if args and args[0] in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands[DEFAULT].make_context(info_name, args, parent, **extra)
