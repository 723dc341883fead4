"""Commands, links and figures of the README and of the documentation's pages."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from vdeploy.cli.app import app
from vdeploy.cli.default_verb import DEFAULT

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")

UNITS = r"%|x|times|m?s|seconds|minutes|[kMG]i?B|[A-Z]*FLOP/s|(?:clips|frames|requests)(?: a second|/s)|requests"
SETTINGS = {"10 %", "3 %", "95 %", "5 %", "2 s"}
"""Quantities in the README that nobody has measured: limits, defaults, intervals."""


def lines(page: Path) -> Iterator[list[str]]:
    """The commands of a page, each as its words; assignments before a command are left out."""
    for block in re.findall(r"^ *```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                yield words


def commands() -> list[list[str]]:
    unique = {" ".join(words): words for page in PAGES for words in lines(page) if words[0] == "vdeploy"}
    return list(unique.values())


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_has_the_options_that_are_shown(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    command = getattr(command, "commands", {}).get(DEFAULT, command)
    assert command.name != "vdeploy"
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known


def test_every_module_that_is_run_is_there() -> None:
    modules = {words[2] for page in PAGES for words in lines(page) if words[:2] == ["python", "-m"]}
    assert modules
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md"])
def test_every_link_leads_somewhere(name: str) -> None:
    """MkDocs checks the links of the site; these files are also read in the repository."""
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text(encoding="utf-8")):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_modules_of_the_upgrade_guide_are_there() -> None:
    rows = re.findall(
        r"^\| `(?:training|vdeploy)\..* \| `([\w.]+)` \|$", (ROOT / "docs/project/upgrade.md").read_text(), re.M
    )
    assert len(rows) > 10
    for module in rows:
        assert importlib.util.find_spec(module), module


def test_the_readme_fits_on_a_few_screens() -> None:
    assert len(README.splitlines()) <= 120


def quantities(text: str) -> set[str]:
    """Numbers with a unit of something that can be measured, in prose and tables; code is left out."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    return {f"{number} {unit}" for number, unit in re.findall(rf"(?<![\w.])(\d[\d.,]*)\s?({UNITS})(?!\w)", prose)}


def unproven(text: str, results: str) -> set[str]:
    """Quantities in a text whose number is not in the results."""
    known = set(re.findall(r"\d+(?:[.,]\d+)*", results))
    return {quantity for quantity in quantities(text) - SETTINGS if quantity.split()[0] not in known}


@pytest.mark.parametrize("name", ["README.md", "docs/index.md", "docs/quickstart.md", "docs/concepts.md"])
def test_no_figure_is_quoted_that_is_not_in_the_results(name: str) -> None:
    assert unproven((ROOT / name).read_text(encoding="utf-8"), RESULTS) == set()


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "models").glob("*.md")), ids=lambda page: page.stem)
def test_no_page_of_a_model_quotes_a_figure_that_is_not_in_the_results(page: Path) -> None:
    assert unproven(page.read_text(encoding="utf-8"), RESULTS) == set()


def test_a_figure_that_nobody_has_measured_is_found() -> None:
    text = "INT8 takes 17.25 ms, 3.9x faster, for 80 MB at 1,234 clips a second; `99 s` is code, 5 % is a rule"
    assert unproven(text, "| onnx-int8 | 17.25 | 80 |") == {"3.9 x", "1,234 clips a second"}
