"""Names from outside that could steer a terminal or that no document can hold."""

from __future__ import annotations

import sys

import pytest

from vdeploy.core.errors import UserError
from vdeploy.core.text import escape_controls, name_problem


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain näme", "plain näme"),
        ("\x1b[2J", "\\x1b[2J"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_control_characters_are_escaped(text: str, escaped: str) -> None:
    assert escape_controls(text) == escaped


def test_an_error_is_one_line_without_control_characters() -> None:
    assert str(UserError("\x1b[31mred\nname", "hint\x07")) == "\\x1b[31mred name; hint\\x07"


def test_a_name_that_is_not_utf_8_is_told_from_one_beyond_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    assert name_problem("häuser.mp4") is None
    assert name_problem("h\udce4user.mp4") == "has a name that is not UTF-8, rename it"
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert name_problem("h\udcc3\udca4user.mp4") == (
        "has a name beyond the locale's encoding, ascii: set LC_ALL=C.UTF-8, or rename it"
    )
