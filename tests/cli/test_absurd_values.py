"""Every option of every command answers absurd values with its result or with one line, and never as a defect."""

from __future__ import annotations

import functools
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import typer

from testing.tiny_bundle import make_tiny_bundle
from testing.videos import write_numbered
from vdeploy.benchmark.measure.process import Refused
from vdeploy.cli import app as cli
from vdeploy.core.errors import UserError

if TYPE_CHECKING:
    from vdeploy.artifacts.run import Run

SECONDS = 60
"""Time for one command; what takes longer hangs."""

NESTED = "[" * 100_000 + "]" * 100_000

NUMBERS = ("0", "-1", "1e308", "-1e308", str(10**30), "1" + "0" * 5000, "nan", "inf", "-inf", "1e-320", "0,0", "1,,2")
TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "a" * 300,
    "/".join(["b" * 200] * 30),
    "\x1b[2J\n",
    "\udcff",
    "*" * 40,
    "$(x)",
    "\u202e",
)
ADDRESSES = ("http://", "rtsp://\0", "127.0.0.1:99999", "[::1", "s3://", "s3://http://127.0.0.1:1/b/p", "a=b=c", "=")
FILES = ("nested.json", "nested.toml", "huge.npy", "folder", "loop", "/dev/null", "missing/missing")
VALUES = (*NUMBERS, *TEXTS, *ADDRESSES, *FILES)
FEW_VALUES = ("0", "-1", "1e308", str(10**30), "nan", "inf", "", "a\0b", "a" * 300, "\udcff", "nested.json", "huge.npy")
FEWEST_VALUES = ("1e308", "a\0b", "\udcff", "nested.json")

BASES: dict[str, tuple[str, ...]] = {
    "benchmark compare": ("result.json", "result.json"),
    "benchmark measure": ("bundle", "--what", "classifier", "--seconds", "0"),
    "benchmark page": ("result.json",),
    "benchmark scale": ("bundle", "--batch", "1", "--seconds", "0", "--threads", "1"),
    "bundle show": ("bundle",),
    "bundle sign": ("bundle", "--key", "missing.pem"),
    "bundle verify": ("bundle",),
    "data add": ("clips", "candidates.csv", "--out", "new.csv"),
    "data scan": ("clips", "--no-decode"),
    "data synth": ("made", "--clips", "2"),
    "deploy": ("bundle", "--url", "127.0.0.1:1", "--repo", "repository"),
    "doctor": (),
    "gateway": ("--bundle", "bundle", "--port", "0", "--spool", "spool"),
    "gateway canary": ("50", "--gateway", "http://127.0.0.1:1"),
    "gateway keys add": ("name",),
    "gateway keys list": (),
    "gateway keys revoke": ("name",),
    "inspect": ("bundle",),
    "mine": ("bundle", "clip.avi", "--out", "mined", "--window", "1", "--stride", "1"),
    "plan": ("bundle", "--cameras", "3"),
    "distill": ("folder", "--out", "small"),
    "pretrain": ("clip.avi", "--out", "trunk", "--recipe", "edge"),
    "prune": ("folder", "--out", "pruned"),
    "predict": ("clip.avi", "--bundle", "bundle", "--window", "1", "--stride", "1"),
    "rollback": ("--url", "127.0.0.1:1", "--repo", "repository"),
    "serve": ("bundle", "--repo", "repository", "--target-ort", "1.21.0"),
    "status": ("--url", "127.0.0.1:1"),
    "tune-serving": ("bundle", "--slo-p99-ms", "100", "--out", "folder", "--arrivals", "nested.json"),
    "watch": ("clip.avi", "--bundle", "bundle", "--retries", "0"),
}
"""Valid arguments of each command."""

_RECIPE = ("clips", "--store", "store", "--set", "clip.size=32", "--set", "clip.frames=4", "--set", "training.epochs=1")
TRAINING: dict[str, tuple[str, ...]] = {
    "ablate": (*_RECIPE, "--weights", "random", "--seeds", "1"),
    "choose": (*_RECIPE, "--recipe", "edge", "--no-speed", "--seeds", "1"),
    "ensemble": ("run", "run", "--out", "together", "--store", "store"),
    "evaluate": ("run", "clips", "--store", "store"),
    "export": ("run", "--store", "store", "--format", "onnx-fp32"),
    "features": (*_RECIPE, "--weights", "random"),
    "lr-find": (*_RECIPE, "--weights", "random", "--steps", "4"),
    "train": (*_RECIPE, "--weights", "random"),
    "tune": (*_RECIPE, "--weights", "random", "--trials", "1"),
}
"""The same of those that load TensorFlow."""


class Command(NamedTuple):
    """A command and what takes a value."""

    name: str
    options: tuple[str, ...]
    arguments: int


class Slow(BaseException):
    """A command has taken too long."""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[Command]:
    subcommands = getattr(command, "commands", {})
    for name, subcommand in subcommands.items():
        yield from commands(subcommand, (*path, name))
    if not subcommands or (path and getattr(command, "invoke_without_command", False)):
        valued = [parameter for parameter in command.params if not getattr(parameter, "is_flag", False)]
        options = tuple(parameter.opts[0] for parameter in valued if parameter.opts[0].startswith("-"))
        yield Command(" ".join(path), options, len(valued) - len(options))


COMMANDS = {command.name: command for command in commands(typer.main.get_command(cli.app))}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("absurd") / "bundle").root


@pytest.fixture
def folder(bundle: Path, clips_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the working directory anew."""
    number = 0

    def anew() -> None:
        nonlocal number
        number += 1
        (root := tmp_path / str(number)).mkdir()
        if number > 1:
            shutil.rmtree(tmp_path / str(number - 1), ignore_errors=True)
        monkeypatch.chdir(root)
        (root / "bundle").symlink_to(bundle)
        (root / "clips").symlink_to(clips_dir)
        (root / "folder").mkdir()
        (root / "loop").symlink_to("loop")
        (root / "nested.json").write_text(NESTED)
        (root / "nested.toml").write_text(f"a = {NESTED}")
        (root / "result.json").write_text("{}")
        (root / "huge.npy").write_bytes(
            b"\x93NUMPY\x01\0v\0{'descr': '<f2', 'fortran_order': False, 'shape': (1099511627776, 9)}\n"
        )
        shutil.copy(clip, root / "clip.avi")
        (root / "candidates.csv").write_text("path,start_s,end_s,label\nclip.avi,0,0.4,non_violent\n")

    clip = write_numbered(tmp_path / "clip.avi", 12)
    return anew


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Callable[[], None]):
    """Runs a command in this process; returns what is wrong with how it ended, if anything is."""

    def alarm(_number: int, _frame: FrameType | None) -> None:
        raise Slow

    def run(*arguments: str) -> str:
        folder()
        monkeypatch.setattr("typer.main.get_command", build)
        monkeypatch.setattr(sys, "argv", ["vdeploy", *arguments])
        monkeypatch.setattr("vdeploy.core.progress._console", None)
        capsys.readouterr()
        signal.signal(signal.SIGALRM, alarm)
        signal.alarm(SECONDS)
        code: object = None
        try:
            cli.main()
        except SystemExit as ending:
            code = ending.code or 0
        except Slow:
            return "hangs"
        except BaseException as error:
            return f"raises {type(error).__name__}: {error}"[:300]
        finally:
            signal.alarm(0)
        out, told = capsys.readouterr()
        if code not in (0, 1, 2):
            return f"code {code}: {told[-300:]}"
        if code == 1 and (
            not (out + told).strip() or "Traceback" in told or len(max(told.splitlines(), default="", key=len)) > 2000
        ):
            return f"no line: {told[-300:]}"
        return ""

    build = functools.cache(typer.main.get_command)
    return run


def findings(
    command: Command, base: tuple[str, ...], outcome: Callable[..., str], values: Sequence[str] = FEW_VALUES
) -> Iterator[str]:
    name = command.name.removesuffix(" measure").split()
    for value in values:
        for option in command.options:
            kept = list(base)
            if option in kept:
                del kept[kept.index(option) : kept.index(option) + 2]
            if fault := outcome(*name, *kept, f"{option}={value}" if option.startswith("--") else f"{option}{value}"):
                yield f"{command.name} {option}={value[:40]!r}: {fault}"
        for position in range(command.arguments):
            replaced = [*base[:position], value, *base[position + 1 :]]
            if not value.startswith("-") and (fault := outcome(*name, *replaced)):
                yield f"{command.name} {value[:40]!r} as argument {position + 1}: {fault}"


def no_peaks(*_: object) -> tuple[()]:
    return ()


def no_process(*_: object) -> None:
    raise Refused("none in this test")


def no_training(*_: object, **__: object) -> None:
    raise UserError("none in this test", "run vdeploy ablate")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Triton's client, half made
@pytest.mark.parametrize("name", sorted(BASES))
def test_a_command(name: str, outcome: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdeploy.benchmark.bundle_benchmark.measure_peaks", no_peaks)
    monkeypatch.setattr("vdeploy.benchmark.measure.interleaving.RowProcess", no_process)
    monkeypatch.setattr("vdeploy.gateway.server.GatewayServer.serve_until_stopped", lambda _: None)
    monkeypatch.setattr("vdeploy.cli.serve._watch", lambda *_: None)
    monkeypatch.setattr("vdeploy.triton.server.install._is_intact", lambda _: True)
    monkeypatch.setattr("os.fsync", lambda _: None)
    faults = list(findings(COMMANDS[name], BASES[name], outcome))
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TRAINING))
def test_a_command_that_trains(
    name: str, tiny_run: Run, clips_dir: Path, outcome: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdeploy.benchmark.bundle_benchmark.measure_peaks", no_peaks)
    monkeypatch.setattr("training.experiments.comparison.train_once", no_training)
    places = {"clips": str(clips_dir), "run": str(tiny_run.root)}
    base = tuple(places.get(word, word) for word in TRAINING[name])
    faults = list(findings(COMMANDS[name], base, outcome, FEWEST_VALUES))
    assert not faults, "\n".join(faults)


def test_no_command_is_left_out() -> None:
    assert set(COMMANDS) == {*BASES, *TRAINING}
