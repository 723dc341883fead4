"""What `tune-serving` has found is served on the machine that it was found on, where no option says otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from testing.format_copies import with_formats
from testing.tiny_bundle import make_tiny_bundle
from tests.triton.planning.conftest import fake_install
from vdeploy.artifacts.bundle import Bundle
from vdeploy.inference.machine_record import save_record
from vdeploy.triton.commands import deploy as deploying
from vdeploy.triton.commands import serve as serving
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.running import running_formats, running_options
from vdeploy.triton.planning import tuned_serving
from vdeploy.triton.planning.plans import StageRequest
from vdeploy.triton.planning.tuned_serving import Configuration, HeldRate, TunedServing, load_tuned
from vdeploy.triton.repository.options import ServingOptions
from vdeploy.triton.repository.serving_plan import ServingPlan
from vdeploy.triton.repository.writer import write_repository

FOUND = Configuration("python", "onnx-int8", "onnx-int8", 2, 1, 2, 200.0)
LINE = (
    "tuned: onnx-int8, 2 x 1 threads, batches of 2 within 18 ms: 14.2 clips/s (13.1 to 15) with a p99 of 200 ms, "
    "measured with clips on 2026-11-30"
)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("VDEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(serving, "find_install", lambda _: fake_install(tmp_path / "backends", "python"))
    return with_formats(make_tiny_bundle(tmp_path / "bundle"), "onnx-int8", "openvino-int8")


def tuned(bundle: Bundle, configuration: Configuration = FOUND) -> TunedServing:
    record = TunedServing(
        bundle_sha256=bundle.manifest.digest,
        cpu=tuned_serving.cpu_name(),
        cores=tuned_serving.available_cores(),
        vdeploy_version="0.2.0",
        measured="2026-11-30T01:02:03+00:00",
        slo_p99_ms=200,
        goal="throughput",
        arrivals="Poisson, seed 0",
        requests=200,
        trials=12,
        configuration=configuration,
        held=HeldRate(clips_per_s=14.21, low=13.1, high=15.0),
        defaults=Configuration("python", "onnx-fp32", "onnx-fp32", 1, 2, 8, None),
        defaults_held=HeldRate(clips_per_s=10, low=9, high=11),
    )
    save_record(record)
    return record


class TestServe:
    def serve(self, bundle: Bundle, tmp_path: Path, *, use: bool = True, **request: Any) -> tuple[str, ServingOptions]:
        changes = request.pop("changes", {})
        stages = StageRequest(changes=changes, options=ServingOptions(**changes), **request)
        root = tmp_path / "r"
        serving.prepare_serving(serving.ServeRequest(bundle.root, str(root), stages, tuned=use))
        journal = Journal(root)
        return running_formats(journal)["extractor"], running_options(journal)

    def test_nothing_is_found(self, held: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.serve(held, tmp_path) == ("onnx-fp32", ServingOptions())
        assert "tuned" not in capsys.readouterr().err

    def test_what_was_found_is_taken_and_told(
        self, held: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tuned(held)
        expected = ServingOptions(instances=2, threads=2, max_batch=2, latency_budget_ms=200.0)
        assert self.serve(held, tmp_path) == ("onnx-int8", expected)
        assert f"{LINE}; --no-tuned leaves it out" in capsys.readouterr().err

    def test_an_option_that_is_named_wins(
        self, held: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tuned(held)
        name, options = self.serve(held, tmp_path, changes={"instances": 1, "max_batch": 8})
        assert (name, options.instances, options.max_batch, options.threads) == ("onnx-int8", 1, 8, 2)
        assert f"{LINE}; otherwise --instances, --max-batch; --no-tuned" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("request_", "named"),
        [
            ({"precision": "fp32"}, "--precision"),
            ({"extractor": "onnx-fp32", "backend": "python"}, "--backend, --extractor-format"),
            ({"changes": {"memory_gb": 4.0}}, "--memory-gb"),
        ],
    )
    def test_it_is_not_mixed_with_another_kind_of_serving(
        self, held: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], request_: dict[str, Any], named: str
    ) -> None:
        tuned(held)
        name, options = self.serve(held, tmp_path, **request_)
        told = capsys.readouterr().err
        assert (name, options.instances) == ("onnx-fp32", 1)
        assert ("backend" in request_) or f"is not used, because of {named}" in told

    def test_it_can_be_left_out(self, held: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tuned(held)
        assert self.serve(held, tmp_path, use=False) == ("onnx-fp32", ServingOptions())
        assert "tuned" not in capsys.readouterr().err


class TestDeploy:
    def planned(
        self,
        bundle: Bundle,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        host: str = "127.0.0.1",
        **changes: Any,
    ) -> ServingPlan:
        """What would be rolled out."""
        plans: list[ServingPlan] = []

        def note(plan: ServingPlan, *_: object) -> None:
            plans.append(plan)
            raise InterruptedError

        monkeypatch.setattr(deploying, "check_plan", note)
        server = deploying.RunningServer(f"{host}:9", str(root))
        with pytest.raises(InterruptedError):
            deploying.deploy_bundle(deploying.DeployRequest(bundle.root, server, StageRequest(None, changes=changes)))
        return plans[0]

    def test_what_was_found_is_taken_here_but_not_elsewhere(
        self, held: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tuned(held)
        write_repository(held, tmp_path / "r", options=ServingOptions(max_batch=2, loaded_versions=2))
        plan = self.planned(held, tmp_path / "r", monkeypatch)
        assert plan.extractor.format == plan.classifier.format == "onnx-int8"
        assert plan.options == ServingOptions(2, 2, max_batch=2, latency_budget_ms=200.0, loaded_versions=2)
        plan = self.planned(held, tmp_path / "r", monkeypatch, instances=1)
        assert (plan.extractor.format, plan.options.instances) == ("onnx-int8", 1)
        plan = self.planned(held, tmp_path / "r", monkeypatch, host="192.0.2.1")
        assert (plan.extractor.format, plan.options.instances) == ("onnx-fp32", 1)

    def test_requests_that_clients_may_send_are_still_taken(
        self, held: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tuned(held)
        write_repository(held, tmp_path / "r")
        assert self.planned(held, tmp_path / "r", monkeypatch).options.max_batch is None
        assert "otherwise --max-batch" in capsys.readouterr().err

    def test_a_server_that_may_lack_the_runtime(
        self, held: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tuned(held, Configuration("python", "openvino-int8", "openvino-int8", 1, 2, 1, None))
        write_repository(held, tmp_path / "r")
        assert self.planned(held, tmp_path / "r", monkeypatch).extractor.format == "onnx-fp32"
        assert "start a server with it by vdeploy serve" in capsys.readouterr().err


def test_a_file_of_another_machine_is_named_and_ignored(
    held: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tuned(held).path
    assert load_tuned(held) is not None
    monkeypatch.setattr(tuned_serving, "cpu_name", lambda: "Another CPU")
    assert load_tuned(held) is None
    assert capsys.readouterr().err == ""
    other = tuned(held).path
    shutil.copyfile(path, other)
    assert load_tuned(held) is None
    assert f"serving: {other} is of another bundle or machine and is ignored" in capsys.readouterr().err.replace(
        "\n", ""
    )


def test_a_damaged_file_is_named_and_ignored(held: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    path = tuned(held).path
    values = json.loads(path.read_bytes())
    values["configuration"]["instances"] = "many"
    path.write_text(json.dumps(values))
    assert load_tuned(held) is None
    told = capsys.readouterr().err
    assert "is damaged (configuration: instances: Input should be a valid integer" in told
    assert "vdeploy tune-serving" in told


def test_the_bundle_stays_as_it_was(held: Bundle, tmp_path: Path) -> None:
    tuned(held)
    assert Bundle(held.root).manifest == held.manifest
    assert not list(held.root.rglob("serving.json"))
