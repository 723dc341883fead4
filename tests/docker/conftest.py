from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def docker_dir() -> Path:
    """The project's folder of images and of what runs them."""
    return ROOT / "docker"
