"""What many tests share: clips, a run trained on them and a bundle of that run, each made once, and commands."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from testing.videos import solid_frame, write_numbered, write_video
from vdeploy.cli import app as cli
from vdeploy.core.errors import ServerError
from vdeploy.core.lazy_imports import load_keras
from vdeploy.synthetic import synthesize

if TYPE_CHECKING:
    from vdeploy.artifacts.run import Run
    from vdeploy.triton.server.install import TritonInstall

REAL_DATA = Path(os.environ.get("VDEPLOY_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
"""Where real clips are looked for; CONTRIBUTING.md says so."""

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, and what they start, ignore it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # what nohup starts ignores it

TINY = ("clip.size=32", "clip.frames=4", "training.epochs=2", "training.batch=8", "backbone.weights=random")
"""Overrides of the default recipe with which a training takes seconds."""

NARROW = [8, 8, 16, 16, *[32] * 4, *[64] * 7, 512]
"""An eighth of the channels of VGG19's convolutions, but for the last, which are the features."""


@pytest.fixture(scope="session")
def tiny_overrides() -> tuple[str, ...]:
    """Overrides of the default recipe with which a training takes seconds."""
    return TINY


def shared(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process of tests to need it makes, and the others wait for; read only."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not (root / f"{name}.made").exists():
                shutil.rmtree(root / name, ignore_errors=True)
                make(root / name)
                (root / f"{name}.made").touch()
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child process may hold the file open
    return root / name


@pytest.fixture(scope="session")
def clips_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty synthetic clips, ten of each class; read only."""
    return shared(tmp_path_factory, "clips", lambda folder: synthesize(folder, clips=20, size=(96, 72), fps=10.0))


@pytest.fixture(scope="session")
def broken_clips_dir(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of `clips_dir` with a truncated, a text, an empty and a single-frame file among them; read only."""
    folder = tmp_path_factory.mktemp("broken") / "clips"
    shutil.copytree(clips_dir, folder, ignore=shutil.ignore_patterns("*.json"))
    corrupt = write_numbered(folder / "violent" / "corrupt.avi", 20)
    corrupt.write_bytes(corrupt.read_bytes()[:200])
    (folder / "violent" / "text.mp4").write_text("dear diary, this is no video\n" * 20)
    (folder / "non_violent" / "empty.mp4").touch()
    write_video(folder / "non_violent" / "single.mp4", [solid_frame((200, 40, 40))])
    return folder


@pytest.fixture(scope="session")
def install() -> TritonInstall:
    """The Triton server of this machine; where there is none, a test that needs it is skipped."""
    from vdeploy.triton.server.install import find_install

    try:
        return find_install()
    except ServerError as error:
        pytest.skip(str(error))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the Hockey Fight clips come first, so that one process of several extracts their features for all."""
    items.sort(key=lambda item: "hockey" not in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Leaves out of garbage collections what stays: half a million objects, and an export alone collects eight times.

    Every process of a whole suite comes to need TensorFlow.
    """
    gc.disable()
    try:
        result = yield
        if len(session.items) > 300:
            load_keras()
    finally:
        gc.enable()
    gc.freeze()
    return result


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Leaves out what has come to stay after each file as well; collections took half of the time of the tests."""
    result = yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()
    return result


HOCKEY = ("clip.frames=4",)
"""Overrides of the default recipe for `hockey`, with which all tests share the features in the user's own store."""


@pytest.fixture(scope="session")
def hockey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to Hockey Fight clips (Bermejo Nievas et al., 2011), 60 to train on and 40 to validate.

    Where there are none, a test that needs them is skipped.
    """
    source = REAL_DATA / "hockey"
    if not source.is_dir():
        pytest.skip(f"the Hockey Fight clips are not at {source}")

    def link(folder: Path) -> None:
        for split, clips in (("train", 30), ("valid", 20)):
            for kind in ("fight", "no_fight"):
                (folder / split / kind).mkdir(parents=True)
                for clip in sorted((source / split / kind).iterdir())[:clips]:
                    (folder / split / kind / clip.name).symlink_to(clip)

    return shared(tmp_path_factory, "hockey", link)


@pytest.fixture(scope="session")
def hockey_run(hockey: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on `hockey` with ImageNet weights; read only."""
    from vdeploy.core.files import cache_dir

    return _trained("hockey-run", HOCKEY, hockey, tmp_path_factory, cache_dir() / "features")


@pytest.fixture(scope="session")
def tiny_run(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on `clips_dir` with random VGG19 weights and clips of 4 frames of 32 pixels; read only."""
    return _trained("tiny", TINY, clips_dir, tmp_path_factory)


def _trained(
    name: str,
    overrides: tuple[str, ...],
    clips: Path,
    tmp_path_factory: pytest.TempPathFactory,
    store: Path | None = None,
) -> Run:
    from training.pipeline import train
    from training.recipe import load_recipe
    from vdeploy.artifacts.run import Run

    def make(folder: Path) -> None:
        train(clips, folder / "run", load_recipe("default", overrides), store_root=store or folder / "features")

    return Run.load(shared(tmp_path_factory, name, make) / "run")


@pytest.fixture(scope="session")
def narrow_run(clips_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Like `tiny_run` with an eighth of VGG19's channels, and so exported much sooner; read only."""
    return _trained("narrow", (*TINY, f"backbone.channels={NARROW}"), clips_dir, tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_bundle_dir(tiny_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `tiny_run` in onnx-fp32; read only."""
    return _exported("tiny", tiny_run, tmp_path_factory)


@pytest.fixture(scope="session")
def narrow_bundle_dir(narrow_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of `narrow_run` in onnx-fp32; read only."""
    return _exported("narrow", narrow_run, tmp_path_factory)


def _exported(name: str, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vdeploy.export.exporter import export_run
    from vdeploy.export.options import ExportOptions
    from vdeploy.formats import parse_formats

    def make(folder: Path) -> None:
        options = ExportOptions(store_root=folder / "store")
        export_run(run, parse_formats("onnx-fp32"), folder / "bundles" / name, options=options)

    return shared(tmp_path_factory, f"exported-{name}", make) / "bundles" / name


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def vdeploy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Done]:
    """Runs a command in this process and in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["vdeploy", *map(str, arguments)])
        monkeypatch.setattr("vdeploy.core.progress._console", None)
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return Done(int(caught.value.code or 0), *capsys.readouterr())

    return run
