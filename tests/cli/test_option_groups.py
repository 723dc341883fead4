"""Groups of options that are declared once as a dataclass."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from typer.testing import CliRunner

from vdeploy.cli import app as cli
from vdeploy.cli.option_groups import expand_groups

TRAINING_VERBS = ("ablate", "features", "lr-find", "train", "tune")


@dataclasses.dataclass(frozen=True)
class Group:
    source: Annotated[Path, typer.Argument(help="A file.")]
    many: Annotated[list[str] | None, typer.Option("--some", help="Words.")] = None
    level: Annotated[int, typer.Option(help="A level.")] = 3


def test_a_group_becomes_options_and_comes_back_as_one_value():
    seen = []
    app = typer.Typer()

    @app.command()
    @expand_groups
    def show(*, loud: bool = False, group: Group) -> None:
        """Shows."""
        seen.append((loud, group))

    arguments = ["a.txt", "--some", "x", "--some", "y", "--loud"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert seen == [(True, Group(Path("a.txt"), ["x", "y"], 3))]
    assert CliRunner().invoke(app, []).exit_code == 2


def test_an_expanded_command_keeps_its_name_and_docstring():
    @expand_groups
    def show(group: Group) -> None:
        """Shows."""

    assert (show.__name__, show.__doc__) == ("show", "Shows.")


def test_the_training_verbs_share_their_options():
    commands = typer.main.get_command(cli.app).commands
    shared = {"source", "recipe", "layer", "weights", "positive", "overrides", "store", "strict"}
    for verb in TRAINING_VERBS:
        assert shared <= {parameter.name for parameter in commands[verb].params}
