"""Text that comes from outside, made safe to print, and settings in words."""

from __future__ import annotations

import collections
import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["escape_controls", "name_problem", "setting_text", "settings_text", "suggestion"]

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, line separators and marks that reverse the direction of writing."""


def escape_controls(text: str) -> str:
    r"""Replaces control characters by their escapes, so that a name cannot steer a terminal or forge a line.

    Example:
        >>> escape_controls("a\x1b[2Jb\n")
        'a\\x1b[2Jb\\n'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def name_problem(path: str) -> str | None:
    """Why a file's name cannot be used, or ``None``.

    Python holds the bytes of a name that the locale's encoding does not define as lone surrogates, which no document
    can store.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        if encoding.casefold() == "utf-8":
            return "has a name that is not UTF-8, rename it"
        return f"has a name beyond the locale's encoding, {encoding}: set LC_ALL=C.UTF-8, or rename it"
    return None


def suggestion(word: str, known: Iterable[str]) -> str:
    """A question whether the most similar of the known words was meant; empty if none is similar.

    Example:
        >>> suggestion("edgy", ["default", "edge"])
        ", did you mean 'edge'?"
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def settings_text(settings: Mapping[str, Any]) -> str:
    """Returns the settings of a model in one line; equal parts, such as the members of an ensemble, are counted.

    Example:
        >>> settings_text({"members": [{"name": "gru", "units": 8}, {"name": "gru", "units": 8}]})
        'members 2 x gru (units 8)'
    """
    return ", ".join(f"{key} {setting_text(value)}" for key, value in settings.items())


def setting_text(value: Any) -> str:
    """Returns the value of a setting in one line."""
    if not (isinstance(value, list | tuple) and value and all(isinstance(part, Mapping) for part in value)):
        return str(value)
    counts = collections.Counter(
        f"{part.get('name', '')} ({settings_text({key: part[key] for key in part if key != 'name'})})".strip()
        for part in value
    )
    return " and ".join(f"{count} x {text}" for text, count in counts.items())
