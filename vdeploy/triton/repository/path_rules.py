"""Refuse paths that Triton's Python backend cannot use.

It starts each model by a shell, with the paths of the stub and of the model in the command as they are: behind a space
the command goes wrong, and Triton waits for the model for ever. In the stub, Python takes file names for ASCII.
"""

from __future__ import annotations

from pathlib import Path

from vdeploy.core.errors import RepositoryError

__all__ = ["OTHER_FOLDER", "refuse_unusable_path"]

OTHER_FOLDER = "choose another folder with --repo"
"""What to do about a model repository in such a folder."""

_SPECIAL = frozenset("\"'`$&;|<>()*?[]{}\\")
"""What a shell does not take for itself inside a word, beside white space."""


def refuse_unusable_path(path: Path, remedy: str) -> None:
    """Looks for characters that the Python backend cannot take.

    Args:
        path: A folder with models or backends; links are followed, as Triton is given what is behind them.
        remedy: What to do about it.

    Raises:
        RepositoryError: The path holds one.
    """
    resolved = str(path.resolve())
    found = next((sign for sign in resolved if sign.isspace() or sign in _SPECIAL or not sign.isascii()), None)
    if found is not None:
        name = "a space" if found == " " else repr(found)
        raise RepositoryError(f"Triton's Python backend cannot work in {resolved!r}: there is {name} in it", remedy)
