"""The fastest format is served, where the benchmark's record of this machine knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testing.format_copies import with_formats
from testing.openvino_bundle import with_openvino
from tests.triton.planning.conftest import fake_install
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import BundleError
from vdeploy.inference.format_speeds import Comparison, SpeedRecord, load_speeds
from vdeploy.inference.machine_record import save_record
from vdeploy.triton.commands import deploy as deploying
from vdeploy.triton.commands import serve as serving
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.plans import StageRequest, formats_to_deploy, plan_serving
from vdeploy.triton.planning.preflight import preflight
from vdeploy.triton.planning.server_facts import Target
from vdeploy.triton.repository.backends import BackendChoice
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.writer import write_repository

REASON = "openvino-int8: 163 ms a clip here, onnx-int8: 607 ms, measured 2026-11-30"


@pytest.fixture
def held(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    return with_formats(bundle, "onnx-int8", "openvino-int8", "tflite-int8")


def record(bundle: Bundle, precision: str = "int8", **clip_ms: float) -> SpeedRecord:
    named = {f"{name}-{precision}": milliseconds for name, milliseconds in clip_ms.items()}
    comparison = Comparison(measured="2026-11-30T01:02:03+00:00", clip_ms=named)
    return load_speeds(bundle).model_copy(update={"comparisons": {precision: comparison}})


class TestServe:
    def served(
        self,
        bundle: Bundle,
        tmp_path: Path,
        speeds: SpeedRecord | None,
        *,
        backends: tuple[str, ...] = ("python", "onnxruntime"),
        target: Target | None = None,
        **request: Any,
    ) -> tuple[tuple[str, str], list[str]]:
        install = fake_install(tmp_path / "backends", *backends)
        where = Surroundings(target or Target(), install, speeds=speeds)
        request = {"backend": "auto", "precision": "int8", **request}
        plan = plan_serving(bundle, tmp_path / "r", StageRequest(**request), where)
        checks = preflight(plan, tmp_path / "r", where)
        return (plan.extractor.format, plan.classifier.format), [
            check.detail for check in checks if check.subject == "format"
        ]

    def test_the_fastest_with_the_reason(self, held: Bundle, tmp_path: Path) -> None:
        formats, told = self.served(held, tmp_path, record(held, onnx=607, openvino=163, tflite=1))
        assert (formats, told) == (("openvino-int8", "openvino-int8"), [REASON])

    def test_the_usual_one_where_it_is_the_fastest(self, held: Bundle, tmp_path: Path) -> None:
        formats, told = self.served(held, tmp_path, record(held, onnx=10, openvino=20))
        assert formats == ("onnx-int8", "onnx-int8")
        assert told == ["onnx-int8: 10 ms a clip here, openvino-int8: 20 ms, measured 2026-11-30"]

    def test_without_a_record_the_benchmark_is_suggested(self, held: Bundle, tmp_path: Path) -> None:
        formats, told = self.served(held, tmp_path, load_speeds(held))
        assert formats == ("onnx-int8", "onnx-int8")
        (line,) = told
        assert line.startswith("onnx-int8; whether openvino-int8 is faster here is measured by vdeploy benchmark ")

    def test_a_record_of_another_precision(self, held: Bundle, tmp_path: Path) -> None:
        formats, _ = self.served(held, tmp_path, record(held, "fp32", onnx=607, openvino=163))
        assert formats == ("onnx-int8", "onnx-int8")

    def test_the_only_format_needs_no_benchmark(self, held: Bundle, tmp_path: Path) -> None:
        formats, told = self.served(held, tmp_path, load_speeds(held), precision=None)
        assert (formats, told) == (("onnx-fp32", "onnx-fp32"), [])

    def test_a_server_elsewhere(self, held: Bundle, tmp_path: Path) -> None:
        assert self.served(held, tmp_path, None) == (("onnx-int8", "onnx-int8"), [])

    @pytest.mark.parametrize(
        "server", [{"backends": ("onnxruntime",)}, {"target": Target(lacks_openvino=True)}], ids=["backend", "package"]
    )
    def test_a_format_that_the_server_cannot_run(self, held: Bundle, tmp_path: Path, server: dict[str, Any]) -> None:
        formats, told = self.served(held, tmp_path, record(held, onnx=607, openvino=163), **server)
        assert (formats, told) == (("onnx-int8", "onnx-int8"), [])

    @pytest.mark.parametrize(
        ("asked", "formats"),
        [
            ({"backend": "python"}, ("onnx-int8", "onnx-int8")),
            ({"backend": "onnxruntime"}, ("onnx-int8", "onnx-int8")),
            ({"extractor": "onnx-fp32"}, ("onnx-fp32", "onnx-int8")),
            ({"extractor": "onnx-int8", "classifier": "openvino-int8"}, ("onnx-int8", "openvino-int8")),
            ({"options": ServingOptions(gpus=(0,))}, ("onnx-int8", "onnx-int8")),
            ({"options": ServingOptions(memory_gb=8.0)}, ("onnx-int8", "onnx-int8")),
        ],
    )
    def test_options_keep_their_meaning(
        self, held: Bundle, tmp_path: Path, asked: dict[str, Any], formats: tuple[str, str]
    ) -> None:
        found, told = self.served(held, tmp_path, record(held, onnx=607, openvino=163), **asked)
        assert (found, told) == (formats, [])

    def test_a_bundle_that_does_not_hold_the_usual_one(
        self, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
        changed = with_formats(bundle, "openvino-int8")
        with pytest.raises(BundleError, match="holds no extractor in onnx-int8"):
            self.served(changed, tmp_path, load_speeds(changed))


class TestDeploy:
    def chosen(self, bundle: Bundle, root: Path, **request: Any) -> str:
        where = Surroundings(speeds=record(bundle, "fp32", onnx=607, openvino=163))
        asked = StageRequest(**{"backend": None, "precision": "fp32", **request})
        found = formats_to_deploy(bundle, root, asked, where)
        assert bool(found.speed_reason) == (found.extractor == "openvino-fp32")
        return found.extractor

    @pytest.mark.parametrize(
        ("runs", "backend", "chosen"),
        [
            ("openvino-fp32", "python", "openvino-fp32"),
            ("onnx-fp32", "python", "onnx-fp32"),
            ("onnx-fp32", "onnxruntime", "onnx-fp32"),
        ],
    )
    def test_openvino_where_the_server_is_known_to_run_it(
        self,
        bundle: Bundle,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        runs: str,
        backend: BackendChoice,
        chosen: str,
    ) -> None:
        pytest.importorskip("openvino")
        monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
        both = with_openvino(bundle)
        write_repository(both, tmp_path / "r", backend=backend, extractor=runs, classifier=runs)
        assert self.chosen(both, tmp_path / "r") == chosen
        assert self.chosen(both, tmp_path / "r", backend="python") == "onnx-fp32"


def test_the_commands_read_the_record(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    both = with_openvino(bundle)
    install = fake_install(tmp_path / "backends", "python")
    monkeypatch.setattr(serving, "find_install", lambda _: install)
    repository = str(tmp_path / "r")

    def serve(folder: str) -> dict[str, str]:
        return serving.prepare_serving(serving.ServeRequest(both.root, str(tmp_path / folder))).formats

    assert serve("first")["extractor"] == "onnx-fp32"
    assert "whether openvino-fp32 is faster here is measured by vdeploy benchmark" in capsys.readouterr().err
    save_record(record(both, "fp32", onnx=607, openvino=163))
    assert serve("r") == {"extractor": "openvino-fp32", "classifier": "openvino-fp32"}
    reason = "format: openvino-fp32: 163 ms a clip here, onnx-fp32: 607 ms, measured 2026-11-30"
    assert f"preflight: ok: {reason}" in capsys.readouterr().err

    asked = StageRequest(backend=None, precision="fp32")
    for host, expected in (("127.0.0.1", "openvino-fp32"), ("192.0.2.1", "onnx-fp32")):
        server = deploying.RunningServer(f"{host}:9", repository, timeout_seconds=1.0)
        monkeypatch.setattr(deploying.RunningServer, "control", refuse)
        with pytest.raises(Refused):
            deploying.deploy_bundle(deploying.DeployRequest(both.root, server, asked))
        said = capsys.readouterr().err
        assert f"rollout: extractor in {expected}" in said
        assert (reason in said) == (expected == "openvino-fp32")


class Refused(Exception):
    """The test has seen what it wanted."""


def refuse(*_: object) -> None:
    raise Refused
