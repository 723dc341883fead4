"""The project's own images, built as a user builds them, on a base of one's choice."""

from __future__ import annotations

from pathlib import Path

from tests.docker.engine import Engine

__all__ = ["SECRET", "build_image"]

SECRET = "this-line-of-pip-conf-is-nobodys-business"  # noqa: S105
"""Stands in the configuration of pip that a build is given."""

ROOT = Path(__file__).parents[2]


def build_image(engine: Engine, name: str, base: str, folder: Path, *, extras: str | None = None) -> str:
    """Builds `docker/Dockerfile.NAME`.

    Args:
        engine: It builds and keeps the image.
        name: The Dockerfile's suffix.
        base: The image to build on.
        folder: Takes the configuration of pip that is handed in as a secret.
        extras: The extras that are installed; `None` for the Dockerfile's own.

    Returns:
        The image's tag.
    """
    (folder / "pip.conf").write_text(f"# {SECRET}\n")
    tag = f"vdeploy-{name}:test"
    arguments = [] if extras is None else ["--build-arg", f"EXTRAS={extras}"]
    engine.docker(
        "build", "--network=host", "--tag", tag, "--file", ROOT / "docker" / f"Dockerfile.{name}",
        "--build-arg", f"BASE_IMAGE={base}", "--secret", f"id=pip,src={folder}/pip.conf", *arguments, ROOT,
    )  # fmt: skip
    return tag
