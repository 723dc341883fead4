"""The house: imports point down, never up and never in a circle, and every module says what it offers."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = {
    "errors": 0,
    "bundle": 2,
    "formats": 2,
    "scoring": 2,
    "watch": 4,
    "runtimes": 3,
    "timelines": 3,
    "triton": 3,
    "benchmark": 4,
    "connect": 4,
    "contents": 5,
    "detector": 4,
    "doctor": 4,
    "evaluate": 4,
    "export": 4,
    "golden": 4,
    "inspection": 4,
    "serving": 4,
    "gateway": 5,
    "cli": 6,
    "demo": 7,
    "__main__": 7,
}
"""The floor of each part of vdeploy. The package itself is on the ground: it holds the version."""

NEVER = {
    "errors": {"bundle", "formats", "runtimes", "triton", "export", "benchmark", "cli"},
    "bundle": {"formats", "runtimes", "triton", "export", "benchmark", "cli"},
    "runtimes": {"triton", "export", "benchmark", "cli"},
    "triton": {"runtimes", "export", "benchmark", "cli"},
}

WITHOUT_ALL = {"vdeploy.__main__"}


@dataclasses.dataclass(frozen=True)
class Module:
    """One source file of the two packages."""

    name: str
    path: Path

    @property
    def part(self) -> str:
        """The first name below the package."""
        return self.name.split(".")[1] if "." in self.name else ""

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    def imports(self, *, at_start: bool = False) -> Iterator[str]:
        """Modules and their members that this one imports, those inside functions included unless `at_start`."""
        for node in _importing(self.tree) if at_start else ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _importing(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _importing(node)


def modules(package: str) -> list[Module]:
    found = []
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found.append(Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), file))
    return found


TRAINING, VDEPLOY = modules("training"), modules("vdeploy")
BY_NAME = {module.name: module for module in (*TRAINING, *VDEPLOY)}

every_module = pytest.mark.parametrize("module", BY_NAME.values(), ids=lambda module: module.name)
of_vdeploy = pytest.mark.parametrize("module", VDEPLOY, ids=lambda module: module.name)


def module_of(imported: str) -> str | None:
    """The module of ours that an imported name is, or comes from."""
    return next((name for name in (imported, imported.rpartition(".")[0]) if name in BY_NAME), None)


def test_the_sources_are_there():
    assert len(TRAINING) > 20
    assert len(VDEPLOY) > 20


@pytest.mark.parametrize("module", TRAINING, ids=lambda module: module.name)
def test_training_knows_nothing_of_vdeploy(module):
    assert not [name for name in module.imports() if name.split(".")[0] == "vdeploy"]


@of_vdeploy
def test_imports_point_down(module):
    if not module.part:
        return
    assert module.part in FLOORS, f"give {module.name} a floor"
    for imported in module.imports():
        package, _, rest = imported.partition(".")
        part = rest.split(".")[0]
        if package == "vdeploy" and part in FLOORS:
            assert FLOORS[part] <= FLOORS[module.part], f"{module.name} imports {imported}, which is above it"
            assert part not in NEVER.get(module.part, set()), f"{module.name} imports {imported}"


def test_imports_make_no_circle():
    below = {
        module.name: {name for imported in module.imports(at_start=True) if (name := module_of(imported))}
        for module in BY_NAME.values()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for other in sorted(below[name] - {name}):
                visit(other, (*path, name))
            done.add(name)

    for name in below:
        visit(name, ())


@every_module
def test_no_module_is_a_drawer_for_odds_and_ends(module):
    assert module.name.rpartition(".")[2] not in {"common", "helpers", "misc", "util", "utils"}


@every_module
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(module.tree)


def offered(module: Module) -> list[str] | None:
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


def defined(module: Module) -> set[str]:
    names = set()
    for node in _importing(module.tree):
        if isinstance(node, ast.Assign):
            names |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return names | {node.name for node in module.tree.body if isinstance(node, functions)}


def as_sorted(names: list[str]) -> list[str]:
    """Constants, then classes, then functions, each in natural order."""

    def key(name: str) -> tuple[int, list[str | int]]:
        kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
        return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]

    return sorted(names, key=key)


@every_module
def test_what_a_module_offers_is_sorted_and_defined(module):
    names = offered(module)
    if names is None:
        is_verb = module.name.startswith("vdeploy.cli.")
        is_empty = module.path.name == "__init__.py" and not defined(module) - {"__version__", "annotations"}
        assert is_verb or is_empty or module.name in WITHOUT_ALL, f"{module.name} has no __all__"
        return
    assert names == as_sorted(names)
    assert len(set(names)) == len(names)
    assert set(names) <= defined(module)
    assert not [name for name in names if name.startswith("_")]
