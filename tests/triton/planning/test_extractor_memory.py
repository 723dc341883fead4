"""An extractor is kept within the memory that there is, or refused before anything is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.triton.planning.conftest import publish
from vdeploy.artifacts.bundle import Bundle
from vdeploy.artifacts.onnx_graphs.memory import GraphMemory
from vdeploy.core.errors import MissingExtraError, RepositoryError
from vdeploy.triton.names import CONFIG, EXTRACTOR_MODEL
from vdeploy.triton.planning import memory as planning_memory
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.memory import needed_bytes, process_bytes, usable_memory
from vdeploy.triton.planning.plans import StageRequest, plan_deployment, plan_serving
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.repository import read_config
from vdeploy.triton.repository.serving_plan import ServingPlan

VGG19 = GraphMemory(80_000_000, 80_000_000, 413_000_000)
"""About what 16 frames of 224 pixels take."""


@pytest.fixture(autouse=True)
def vgg19(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning_memory, "memory_of", lambda *_: VGG19)


def planned(bundle: Bundle, root: Path, gigabytes: float | None, **options: Any) -> ServingPlan:
    memory = None if gigabytes is None else round(gigabytes * 1e9)
    request = StageRequest("onnxruntime", options=ServingOptions(**options))
    return plan_serving(bundle, root, request, Surroundings(memory=memory))


@pytest.mark.parametrize(
    ("gigabytes", "options", "arena", "batch"),
    [
        (8.0, {}, True, 8),
        (4.5, {}, False, 8),
        (4.0, {"memory_gb": 8.0}, True, 8),
        (8.0, {"memory_gb": 4.5}, False, 8),
        (4.0, {}, False, 4),
        (1.6, {}, False, 2),
        (1.0, {}, False, 1),
        (1.0, {"max_batch": 2}, True, 2),
        (4.5, {"instances": 2}, False, 4),
        (None, {}, True, 8),
        (8.0, {"arena": False}, False, 8),
        (0.1, {}, True, 8),
    ],
)
def test_the_arena_goes_first_then_the_batch(
    bundle: Bundle, tmp_path: Path, gigabytes: float | None, options: dict[str, Any], arena: bool, batch: int
) -> None:
    plan = planned(bundle, tmp_path, gigabytes, **options)
    assert (plan.options.arena, plan.options.max_batch or 8) == (arena, batch)


def test_the_configuration_says_so(bundle: Bundle, tmp_path: Path) -> None:
    request = StageRequest("onnxruntime", options=ServingOptions(memory_gb=1.6))
    published = publish(bundle, tmp_path / "r", request)
    config = read_config(tmp_path / "r" / EXTRACTOR_MODEL / CONFIG)
    assert config.max_batch_size == 2
    assert config.parameters["enable_mem_arena"].string_value == "0"
    (said,) = (check.detail for check in published.checks if check.subject == "memory")
    assert said == "1.4 GB needed (1 instance of the extractor, batches of 2, no memory arena), 1.6 GB at most"
    kept = plan_deployment(bundle, tmp_path / "r")
    assert (kept.options.memory_gb, kept.options.max_batch, kept.options.arena) == (1.6, 2, False)


@pytest.mark.parametrize(
    ("backend", "options", "needed"),
    [
        ("onnxruntime", {"memory_gb": 0.5}, "8.0 GB needed (1 instance of the extractor, batches of 8"),
        (
            "onnxruntime",
            {"memory_gb": 1.0, "max_batch": 4},
            "4.2 GB needed (1 instance of the extractor, batches of 4",
        ),
        ("python", {"memory_gb": 1.0}, "1.3 GB needed (1 instance of the extractor"),
        ("python", {"memory_gb": 3.0, "instances": 3}, "3.7 GB needed (3 instances of the extractor"),
    ],
)
def test_what_does_not_fit_is_refused(
    bundle: Bundle, tmp_path: Path, backend: Any, options: dict[str, Any], needed: str
) -> None:
    with pytest.raises(RepositoryError) as caught:
        publish(bundle, tmp_path / "r", StageRequest(backend, options=ServingOptions(**options)))
    remedy = "choose fewer --instances" if backend == "python" else "choose a smaller --max-batch"
    assert str(caught.value).startswith(f"memory: {needed}), {options['memory_gb']:.1f} GB at most; {remedy}")
    assert not (tmp_path / "r").exists()


def test_a_server_elsewhere(bundle: Bundle, tmp_path: Path) -> None:
    published = publish(bundle, tmp_path / "r", StageRequest("python"))
    (said,) = (check.detail for check in published.checks if check.subject == "memory")
    assert said.endswith("; what the server has is not known, give it with --memory-gb")


def test_without_the_package_onnx(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingExtraError("onnx", "export", "computing the memory of a model")

    monkeypatch.setattr(planning_memory, "memory_of", missing)
    published = publish(bundle, tmp_path / "r", StageRequest("onnxruntime", options=ServingOptions(memory_gb=0.1)))
    (check,) = (check for check in published.checks if check.subject == "memory")
    assert check.passed
    assert "what the extractor needs is not known: " in check.detail


def test_memory_of_a_container_or_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "limit").write_text("4000000000\n")
    machine = usable_memory((tmp_path / "max", tmp_path / "missing"))
    assert machine > 10**9
    assert usable_memory((tmp_path / "limit",)) == min(4_000_000_000, machine)


def test_a_process_without_the_arena_takes_less() -> None:
    assert process_bytes(VGG19, 8, arena=False) < process_bytes(VGG19, 8, arena=True)
    assert process_bytes(dataclasses.replace(VGG19, packed_bytes=0), 1, arena=True) == 1_109_900_000


def test_the_streaming_form_of_a_causal_model_takes_memory_too(bundle: Bundle, tmp_path: Path) -> None:
    plan = planned(bundle, tmp_path, None, streams=StreamOptions(2))
    causal = dataclasses.replace(plan, extractor=dataclasses.replace(plan.extractor, has_stream=True))
    kept = process_bytes(VGG19, 1, arena=True)
    assert needed_bytes(causal, VGG19) - needed_bytes(plan, VGG19) == kept
    without = dataclasses.replace(causal, options=dataclasses.replace(plan.options, streams=None))
    assert needed_bytes(without, VGG19) == needed_bytes(plan, VGG19)
