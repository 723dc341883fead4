"""A group of commands one of which needs no name: ``vdeploy benchmark BUNDLE`` beside ``vdeploy benchmark compare``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

__all__ = ["DEFAULT", "DefaultVerbGroup"]

DEFAULT = "measure"
"""Name under which the command that needs none is added to the group."""


class DefaultVerbGroup(TyperGroup):
    """A group whose command `DEFAULT` takes every call that does not begin with the name of another command."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Makes the context of the group, or of the default command as if there were no group."""
        if args and args[0] in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands[DEFAULT].make_context(info_name, args, parent, **extra)
