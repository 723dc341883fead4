"""The structure: imports point down, no two files import each other, every module states its purpose and its names."""

from __future__ import annotations

import ast
import collections
import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEVELS: dict[str, int] = {
    "vdeploy": 0,
    "vdeploy.core": 0,
    "vdeploy.video": 1,
    "vdeploy.synthetic": 1,
    "vdeploy.dataset": 2,
    "vdeploy.evaluation": 2,
    "vdeploy.models": 2,
    "vdeploy.features": 3,
    "vdeploy.artifacts": 3,
    "vdeploy.formats": 3,
    "vdeploy.inference": 4,
    "vdeploy.triton": 4,
    "vdeploy.inference.open_scorer": 5,
    "vdeploy.timeline": 5,
    "vdeploy.live": 6,
    "vdeploy.detector": 6,
    "vdeploy.export": 6,
    "vdeploy.doctor": 6,
    "vdeploy.inspection": 7,
    "vdeploy.inference.golden_clips": 7,
    "vdeploy.triton.commands": 7,
    "vdeploy.evaluate": 7,
    "vdeploy.gateway": 7,
    "vdeploy.benchmark": 7,
    "training": 8,
    "vdeploy.benchmark.scaling": 8,
    "vdeploy.cli": 9,
    "vdeploy.demo": 10,
    "vdeploy.__main__": 10,
}
"""The level of each part; the longest prefix of a module's name counts. A module imports its own level and below."""

MAY_IMPORT_TRAINING = ("training", "vdeploy.cli", "vdeploy.benchmark.scaling")

WITHOUT_ALL = {"vdeploy.__main__"}
MOST_LINES = 250
LONGER = {"training.recipe_sections": "a table: every key of a recipe with its default, range and meaning"}
"""Modules that may be longer than the others, and why."""

VAGUE_NAMES = {"common", "helpers", "misc", "util", "utils"}


@dataclasses.dataclass(frozen=True)
class Module:
    """One source file of the two packages."""

    name: str
    path: Path

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @property
    def level(self) -> int:
        parts = self.name.split(".")
        return next(LEVELS[p] for n in range(len(parts), 0, -1) if (p := ".".join(parts[:n])) in LEVELS)

    @functools.cached_property
    def imports(self) -> set[str]:
        """Modules of ours that this one imports, those inside functions and under TYPE_CHECKING included."""
        names = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} imports relatively"
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        return {found for name in names if (found := module_of(name)) and found != self.name}


def _modules() -> Iterator[Module]:
    for package in ("training", "vdeploy"):
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            yield Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), file)


MODULES = {module.name: module for module in _modules()}


def module_of(imported: str) -> str | None:
    """The module of ours that an imported name is, or comes from."""
    return next((name for name in (imported, imported.rpartition(".")[0]) if name in MODULES), None)


@pytest.mark.slow
def test_imports_point_down():
    assert len(MODULES) > 200
    wrong = []
    for module in MODULES.values():
        for name in sorted(module.imports):
            to_training = name.split(".")[0] == "training" and not module.name.startswith(MAY_IMPORT_TRAINING)
            if to_training or MODULES[name].level > module.level:
                wrong.append(f"{module.name} imports {name}, which lies above it")
    assert not wrong, "\n".join(wrong)


def test_no_two_modules_import_each_other():
    pairs = {
        (module.name, name)
        for module in MODULES.values()
        for name in module.imports
        if module.name < name and module.name in MODULES[name].imports
    }
    assert not pairs


def test_imports_make_no_circle():
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for other in sorted(at_start(MODULES[name]) - {name}):
                visit(other, (*path, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_every_module_states_its_purpose():
    for module in MODULES.values():
        assert ast.get_docstring(module.tree), f"{module.name} has no docstring"
        assert module.name.rpartition(".")[2] not in VAGUE_NAMES, f"{module.name} is named for nothing"


def test_public_names_are_sorted_and_defined():
    for module in MODULES.values():
        names = offered(module)
        if names is None:
            is_verb = module.name.startswith("vdeploy.cli.")
            is_empty = module.path.name == "__init__.py" and not defined(module) - {"__version__", "annotations"}
            assert is_verb or is_empty or module.name in WITHOUT_ALL, f"{module.name} has no __all__"
            continue
        assert names == as_sorted(names), f"{module.name}: __all__ is not sorted"
        assert len(set(names)) == len(names), f"{module.name}: a name stands twice"
        assert set(names) <= defined(module), f"{module.name} does not define all of its names"
        assert not [name for name in names if name.startswith("_")], f"{module.name} offers a private name"


def test_no_module_is_long() -> None:
    lengths = {module.name: len(module.path.read_text(encoding="utf-8").splitlines()) for module in MODULES.values()}
    assert {name: count for name, count in lengths.items() if count > MOST_LINES and name not in LONGER} == {}
    assert set(LONGER) <= set(lengths), "a longer module is gone"


def test_no_two_test_modules_have_one_name() -> None:
    """Pytest imports them by their name alone."""
    names = collections.Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def at_start(module: Module) -> set[str]:
    """Modules of ours that are loaded when this one is imported."""
    names = set()
    for node in _importing(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {found for name in names if (found := module_of(name))}


def _importing(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _importing(node)


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
