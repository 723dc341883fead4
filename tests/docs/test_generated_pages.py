"""The pages of the site that are generated, and the site as a whole."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from vdeploy.cli.app import app

pytest.importorskip("mkdocs", reason="needs the extra docs")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated_pages", ROOT / "docs" / "hooks" / "generated_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(command: Any, words: tuple[str, ...] = ("vdeploy",)) -> list[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", {})
    if not children:
        return [(words, command)]
    found = []
    for name, child in children.items():
        found += commands(child, words if child.hidden else (*words, name))
    return found


def test_the_command_line_has_every_command_with_every_option(pages):
    text = pages.command_line()
    sections = dict(re.findall(r"^##+ (vdeploy[^\n]*)\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE))
    for words, command in commands(typer.main.get_command(app)):
        section = sections[" ".join(words)]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert all(f"`{name}`" in section for name in parameter.opts), (words, parameter.name)
            else:
                assert parameter.metavar in section


def test_text_of_options_is_shown_as_it_is(pages):
    text = pages.command_line()
    assert r"\[default: 8001; 1\<=x\<=65535\]" in text
    assert r"`DIR\|s3://…`" in text


def test_recipes_are_whole_files(pages):
    text = pages.recipes()
    for file in (ROOT / "training" / "recipes").glob("*.toml"):
        assert file.read_text(encoding="utf-8").strip() in text


def test_results_are_those_of_the_records_page(pages):
    text = pages.results()
    figures = re.findall(r"\d[\d.,]*", (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"))
    assert re.findall(r"\d[\d.,]*", text) == figures
    assert not re.findall(r"\]\((?!https?:)", text)


def test_the_http_reference_names_every_operation(pages):
    text = pages.http_api()
    for request in ("POST /predict", "POST /streams/live", "GET /healthz", "PUT /admin/canary"):
        assert f"## {request}\n" in text


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    html = "\n".join(page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html"))
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]*"', html), (
        "a page loads from elsewhere"
    )
