"""What the tests of containers share, each made once: an engine, images, bundles that they serve and a clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testing.debian import Unavailable
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import write_numbered
from tests.docker.engine import Engine
from tests.docker.leftovers import leftovers
from tests.docker.standin import PYTHON_IMAGE, TRITON_IMAGE, make_python_image, make_triton_image

if TYPE_CHECKING:
    from vdeploy.triton.server.install import TritonInstall

FRAMES, SIZE = 4, 32


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    try:
        with Engine() as running:
            yield running
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not leftovers(running.mark)


@pytest.fixture(scope="session")
def python_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    try:
        make_python_image(engine, tmp_path_factory.mktemp("python"))
    except Unavailable as reason:
        pytest.skip(str(reason))
    return PYTHON_IMAGE


@pytest.fixture(scope="session")
def triton_image(
    engine: Engine, python_image: str, install: TritonInstall, tmp_path_factory: pytest.TempPathFactory
) -> str:
    if not install.stubs:
        pytest.skip(f"the Triton of {install.origin} cannot be put into an image")
    make_triton_image(engine, install, tmp_path_factory.mktemp("triton"))
    return TRITON_IMAGE


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles `tiny` and `better`, whose answers differ."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, seed in (("tiny", 0), ("better", 1)):
        make_tiny_bundle(folder / name, frames=FRAMES, size=SIZE, seed=seed)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    folder.chmod(0o755)
    return write_numbered(folder / "clip.mp4", 12)


@pytest.fixture(scope="session")
def in_process(bundles: Path, clip: Path) -> dict[str, float]:
    """The probability that each bundle gives the clip, computed in this process."""
    from vdeploy.artifacts.bundle import Bundle
    from vdeploy.detector import predict_videos
    from vdeploy.inference.in_process import LocalScorer

    said = {}
    for bundle in bundles.iterdir():
        (prediction,) = predict_videos([clip], LocalScorer(Bundle(bundle)))
        assert prediction.probability is not None
        said[bundle.name] = prediction.probability
    return said
