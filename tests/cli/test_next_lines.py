"""The command that a result suggests can be pasted into a shell."""

from __future__ import annotations

import shlex

import pytest

from vdeploy.cli.options import print_next


def test_paths_are_quoted(capsys: pytest.CaptureFixture[str]):
    words = ("train", "my clips/it's", "--recipe", "best of 3.toml")
    print_next(*words)
    line = capsys.readouterr().out
    assert line == "next: vdeploy train 'my clips/it'\"'\"'s' --recipe 'best of 3.toml'\n"
    assert shlex.split(line.removeprefix("next: vdeploy ")) == list(words)
