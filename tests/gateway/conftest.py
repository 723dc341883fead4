from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.running_gateway import Running, running_gateway
from testing.tiny_bundle import make_tiny_bundle
from testing.videos import write_numbered


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("gateway") / "bundle").root


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of numbered frames."""
    return write_numbered(tmp_path_factory.mktemp("videos") / "clip.mp4", 100)


@pytest.fixture(scope="session")
def gateway(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with small limits that no test may break."""
    limits = ("--max-upload-mb", "1", "--max-duration", "20", "--max-pixels", "400000", "--max-frames", "600")
    with running_gateway(tmp_path_factory.mktemp("spool"), "--bundle", str(bundle_dir), *limits) as running:
        yield running
