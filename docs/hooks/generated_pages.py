"""MkDocs hook: generate the pages whose content stands elsewhere in the repository.

The command-line reference comes from the Typer application, the results from ``benchmarks/RESULTS.md``, the recipes
from their TOML files, the HTTP reference from the gateway's OpenAPI document, and the changes, the contributor's guide
and the security policy from the files in the root of the repository.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "training" / "recipes"

CLI_INTRODUCTION = """# Command line

Every command prints its options with `--help`. `--version` prints the version; `--debug` behind any command shows the
traceback of an error.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | an error that the message says how to correct |
| 2 | wrong usage |
| 3 | `benchmark compare` found a slower row |
| 70 | an internal error |
| 130 | interrupted; the same command continues |"""

RECIPES_INTRODUCTION = """# Recipes

`--recipe NAME` selects one of these; `--recipe FILE.toml` reads one of your own. Keys that are left out keep the values
of `default`. `--set section.key=value` changes one key."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages in ``docs/models`` that the navigation does not list."""
    (models,) = (section["Models"] for section in config.nav or [] if "Models" in section)
    listed = {path for entry in models for path in (entry.values() if isinstance(entry, dict) else [entry])}
    for page in sorted((ROOT / "docs" / "models").glob("*.md")):
        if f"models/{page.name}" not in listed:
            models.append(f"models/{page.name}")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the files of the site."""
    sys.path.insert(0, str(ROOT))
    pages: dict[str, Callable[[], str]] = {
        "project/changelog.md": lambda: _read("CHANGELOG.md"),
        "project/contributing.md": lambda: _read("CONTRIBUTING.md"),
        "project/security.md": lambda: _read("SECURITY.md"),
        "reference/cli.md": command_line,
        "reference/http.md": http_api,
        "reference/recipes.md": recipes,
        "results.md": results,
    }
    for path, write in pages.items():
        files.append(File.generated(config, path, content=write()))
    return files


def command_line() -> str:
    """Return the reference of every command, its arguments and its options."""
    get_command = import_module("typer.main").get_command
    root = get_command(import_module("vdeploy.cli.app").app)
    parts = [CLI_INTRODUCTION]
    for words, command in _commands(root, ["vdeploy"]):
        parts += _command(words, command)
    return "\n\n".join(parts) + "\n"


def _commands(command: Any, words: list[str]) -> Iterator[tuple[list[str], Any]]:
    for name, child in getattr(command, "commands", {}).items():
        if child.hidden:  # the command that a group runs where no other is named
            yield words, child
        elif hasattr(child, "commands"):
            if not any(grandchild.hidden for grandchild in child.commands.values()):
                yield [*words, name], child
            yield from _commands(child, [*words, name])
        else:
            yield [*words, name], child


def _command(words: list[str], command: Any) -> Iterator[str]:
    context = command.make_context(words[-1], [], resilient_parsing=True)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    yield f"{'#' * min(len(words), 3)} {' '.join(words)}"
    yield _text(command.help or "")
    usage = [*words, *(["[OPTIONS]"] if options else []), *(_metavar(one) for one in arguments)]
    if hasattr(command, "commands"):
        usage.append("COMMAND")
    yield f"```text\n{' '.join(usage)}\n```"
    if arguments:
        yield _table("argument", ((f"`{_metavar(one)}`", " ".join((one.help or "").split())) for one in arguments))
    if options:
        yield _table("option", (_option(*one.get_help_record(context)) for one in options))
    if command.epilog:
        yield _text(command.epilog)


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def _option(names: str, text: str) -> tuple[str, str]:
    """Return the cells of an option from the two columns of its line in ``--help``."""
    flags, _, kind = names.partition(" <") if " <" in names else names.partition(" ")
    shown = [f"`{flag}`" for flag in re.split(r"[, /]+", flags) if flag.startswith("-")]
    kind = kind.rstrip(">").strip()
    return ", ".join(shown) + (f" `{kind}`" if kind and not kind.startswith(("-", "/")) else ""), " ".join(text.split())


def _table(kind: str, rows: Iterator[tuple[str, str]]) -> str:
    body = "\n".join(f"| {_cell(name)} | {_cell(_escaped(text))} |" for name, text in rows)
    return f"| {kind} | description |\n|---|---|\n{body}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped(text: str) -> str:
    """Return plain text as Markdown that shows it unchanged."""
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", text)


def _text(text: str) -> str:
    paragraphs = text.replace("\b", "").strip().split("\n\n")
    return "\n\n".join(_escaped(" ".join(paragraph.split())) for paragraph in paragraphs)


def http_api() -> str:
    """Return the operations of the gateway's OpenAPI document."""
    document = import_module("vdeploy.gateway.app").create_app(_NoService()).openapi()
    parts = ["# HTTP API", "The gateway describes itself at `GET /openapi.json`. This page lists its operations."]
    parts.append("| request | |\n|---|---|")
    rows = [
        f"| `{method.upper()} {path}` | {_cell(_escaped(operation.get('summary', '')))} |"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts[-1] += "\n" + "\n".join(rows)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    return "\n\n".join(parts) + "\n"


def _operation(title: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"## {title}"
    if text := operation.get("description") or operation.get("summary"):
        yield text
    if parameters := operation.get("parameters"):
        yield _table(
            "parameter", ((f"`{one['name']}` ({one['in']})", one.get("description", "")) for one in parameters)
        )
    if content := operation.get("requestBody", {}).get("content"):
        yield "Body: " + ", ".join(f"`{kind}`" for kind in content)
    yield _table("status", ((code, answer.get("description", "")) for code, answer in operation["responses"].items()))


class _NoService:
    """Stands for the service, which an OpenAPI document does not need."""

    metrics = tracing = None


def recipes() -> str:
    """Return the recipes that are part of the package, each as its file."""
    parts = [RECIPES_INTRODUCTION]
    files = sorted(RECIPES.glob("*.toml"), key=lambda file: (file.stem != "default", file.stem))
    for file in files:
        parts += [f"## {file.stem}", f"```toml\n{file.read_text(encoding='utf-8').strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def results() -> str:
    """Return the measured results, whose links to the records are left out."""
    text = _read("benchmarks/RESULTS.md")
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]+\)", r"`benchmarks/\1`", text)


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
