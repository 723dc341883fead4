from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.core.files import sha256_of, write_json
from vdeploy.triton.planning.checks import Check, Surroundings
from vdeploy.triton.planning.plans import StageRequest, check_plan, plan_serving
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_plan
from vdeploy.triton.server.install import TritonInstall


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "bundle")


def engine_bytes(version: tuple[int, int, int, int] = (10, 13, 2, 6), tag: bytes = b"ftrt") -> bytes:
    """The first bytes of an engine of the library tensorrt, and nothing behind them."""
    return struct.pack("<4sIIIQ4B", tag, 0, 0, 0, 200, *version) + bytes(172)


def with_engines(bundle: Bundle, *, name: str = "tensorrt-fp16", largest: int = 64, **engine: Any) -> Bundle:
    """The bundle with both stages as engines too: files with the right first bytes, and what the manifest says."""
    values = bundle.manifest.model_dump(mode="json")
    for artifact in list(values["artifacts"]):
        file = bundle.root / artifact["stage"] / name / "model.engine"
        file.parent.mkdir(parents=True)
        file.write_bytes(engine_bytes())
        tensor, rest = artifact["inputs"][0]["name"], [4, 8]
        papers = {
            "capabilities": [89],
            "shapes": {tensor: [[1, *rest], [1, *rest], [largest, *rest]]},
            "flags": {"version_compatible": False, "hardware_compatibility": "none"},
        }
        values["artifacts"].append(
            artifact
            | {
                "format": name,
                "precision": "fp16",
                "path": file.relative_to(bundle.root).as_posix(),
                "sha256": sha256_of(file),
                "bytes": file.stat().st_size,
                "details": {"engine": papers | engine},
            }
        )
    write_json(bundle.root / MANIFEST, values)
    return Bundle(bundle.root)


def fake_install(folder: Path, *backends: str) -> TritonInstall:
    """A server of which only the backends' files exist."""
    for name in backends:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"libtriton_{name}.so").touch()
    return TritonInstall(folder / "tritonserver", folder, {}, folder / "lib", "2.60.0", "a test")


@dataclasses.dataclass(frozen=True)
class Published:
    repository: Repository
    checks: tuple[Check, ...]


def publish(
    bundle: Bundle,
    root: Path,
    request: StageRequest,
    on_check: Callable[[Check], None] = lambda _: None,
    **surroundings: Any,
) -> Published:
    """Plans, checks and writes, as `vdeploy serve` does."""
    where = Surroundings(**surroundings)
    plan = plan_serving(bundle, root, request, where)
    checks = check_plan(plan, root, where, on_check)
    return Published(write_plan(plan, root), checks)
