"""The README's commands exist, with the options that it names."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from vdeploy.cli.app import app
from vdeploy.cli.default_verb import DEFAULT

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def lines() -> Iterator[list[str]]:
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def commands() -> list[list[str]]:
    return [words for words in lines() if words[0] == "vdeploy"]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_has_the_options_that_are_shown(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    command = getattr(command, "commands", {}).get(DEFAULT, command)
    assert command.name != "vdeploy"
    known = set(itertools.chain.from_iterable(option.opts for option in command.params))
    assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known


def test_every_module_that_is_run_is_there() -> None:
    modules = [words[2] for words in lines() if words[:2] == ["python", "-m"]]
    assert modules
    for module in modules:
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module


def test_every_link_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
