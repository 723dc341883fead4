"""The commands that the results name are commands that there are, with the options that they show."""

from __future__ import annotations

import argparse
import importlib
import shlex
from typing import Any

import pytest
import typer.main

from benchmarks.results.catalogue import STUDIES
from benchmarks.results.record import load_record
from benchmarks.results.study import Inputs
from tests.benchmark.results.test_results_document import FOLDER
from vdeploy.cli.app import app
from vdeploy.cli.default_verb import DEFAULT

COMMANDS = sorted(
    {step.shown() for study in STUDIES for step in study.steps}
    | {
        measurement.command
        for study in STUDIES
        for measurement in load_record(FOLDER / "records", study.name).measurements.values()
    }
)


class ParsedError(Exception):
    """Raised where a script would begin to work."""


def parse_verb(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    rest = words
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    command = getattr(command, "commands", {}).get(DEFAULT, command)
    command.make_context(command.name, list(rest))


def parse_script(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lets a script parse its command line, and no more; what it does not know is returned."""
    known = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise ParsedError(known(parser, words)[1])

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_and_stop)
    with pytest.raises(ParsedError) as stopped:
        importlib.import_module(module).main()
    return list(stopped.value.args[0])


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses(command, monkeypatch):
    program, *words = shlex.split(command)
    if program == "vdeploy":
        parse_verb([*words, "--json"])
        return
    dash, module, *options = words
    assert (program, dash) == ("python", "-m")
    unknown = parse_script(module, [*options, "--out", "x.json"], monkeypatch)
    if module == "benchmarks.compare_reruns":
        parse_verb(["benchmark", "BUNDLE", *unknown])
    else:
        assert unknown == []


def test_options_that_there_are_not_are_found(monkeypatch):
    assert parse_script("benchmarks.features", ["--clip-count=3"], monkeypatch) == ["--clip-count=3"]
    with pytest.raises(Exception, match="No such option"):
        parse_verb(["train", "clips", "--sed", "1"])


def test_no_record_tells_where_things_lay():
    for file in (FOLDER / "records").glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert not [place for place in ("/home/", "/tmp/", "/root/", "/work/", "/Users/") if place in text], file.name


def test_a_step_shows_its_inputs_by_name(tmp_path):
    for study in STUDIES:
        for step in study.steps:
            inputs = Inputs(tmp_path / "b", tmp_path / "d", tmp_path / "r")
            assert str(tmp_path) not in step.shown(inputs)
            assert sum(str(tmp_path) in word for word in step.words(inputs)) == len(step.inputs)
