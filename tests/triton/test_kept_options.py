"""Every option of how models are run outlives deployments and rollbacks, and can be changed by a deployment."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from testing.tiny_bundle import make_tiny_bundle
from tests.triton.fake_control import FakeControl
from vdeploy.artifacts.bundle import Bundle
from vdeploy.cli.serving_options import named_options, reset_options
from vdeploy.core.errors import RepositoryError, RolloutError
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.triton.client.model_control import ModelControl
from vdeploy.triton.commands.deploy import DeployRequest, RunningServer, deploy_bundle
from vdeploy.triton.deployment.deploy import deploy, rollback
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.deployment.running import running_backends, running_options
from vdeploy.triton.names import CONFIG, ENSEMBLE_MODEL, EXTRACTOR_MODEL
from vdeploy.triton.planning.checks import Surroundings
from vdeploy.triton.planning.existing_repository import standing_repository
from vdeploy.triton.planning.plans import StageRequest, plan_deployment, plan_serving
from vdeploy.triton.planning.preflight import preflight
from vdeploy.triton.repository.backends import Backend
from vdeploy.triton.repository.kept_options import OPTIONS_PARAMETER
from vdeploy.triton.repository.model_set import PLAIN
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_plan

VALUES: dict[str, tuple[Any, dict[str, Any]]] = {
    "instances": (3, {}),
    "threads": (6, {}),
    "gpus": ((0, 2), {}),
    "max_batch": (4, {}),
    "latency_budget_ms": (250.0, {}),
    "max_queue": (17, {}),
    "loaded_versions": (2, {}),
    "warmup_batches": ((1, 3), {}),
    "accelerate": (True, {"gpus": (0,)}),
    "memory_gb": (3.5, {}),
    "arena": (False, {}),
    "streams": (StreamOptions(5, 7.0), {}),
}
"""A value that is not the default for each option, and the options that it needs beside it."""

FIELDS = [field.name for field in dataclasses.fields(ServingOptions)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    return make_tiny_bundle(folder / "0", seed=0), make_tiny_bundle(folder / "1", seed=1)


@pytest.fixture(autouse=True)
def unsafe_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about a machine that loses its power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def served(bundle: Bundle, root: Path, options: ServingOptions, backend: Backend = "onnxruntime") -> FakeControl:
    """A repository that `vdeploy serve` has filled, and a server that has loaded it."""
    models = write_plan(plan_serving(bundle, root, StageRequest(backend, options=options)), root).models
    control = FakeControl(root)
    for model in models:
        control.load(model)
    return control


def deployed(bundle: Bundle, control: FakeControl, **changes: Any) -> None:
    plan = plan_deployment(bundle, control.root, StageRequest(None, changes=changes))
    golden = golden_clips_of(bundle, "onnx-fp32", "onnx-fp32")
    deploy(plan, cast("ModelControl", control), control.root, golden)


def rolled_back(control: FakeControl) -> None:
    rollback(cast("ModelControl", control), control.root)


def how_it_runs(root: Path) -> dict[str, Any]:
    """The configurations of a repository, without what names versions and the bundle."""
    found = {}
    for file in sorted(root.glob(f"*/{CONFIG}")):
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        config.ClearField("version_policy")
        for step in config.ensemble_scheduling.step:
            step.model_version = -1
        config.parameters.pop("bundle_sha256", None)
        found[config.name] = config
    return found


def forget_options(root: Path) -> None:
    """Makes the repository one of vdeploy 0.2, which did not keep options by themselves."""
    for file in root.glob(f"*/{CONFIG}"):
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        config.parameters.pop(OPTIONS_PARAMETER, None)
        file.write_text(text_format.MessageToString(config))


def test_every_option_is_tried() -> None:
    assert list(VALUES) == FIELDS
    assert not [name for name in FIELDS if VALUES[name][0] == getattr(ServingOptions(), name)]


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_it_outlives_deployment_and_rollback(bundles: tuple[Bundle, Bundle], tmp_path: Path, name: str) -> None:
    value, others = VALUES[name]
    options = ServingOptions(**{name: value}, **others)
    control = served(bundles[0], tmp_path / "r", options)
    wanted, journal = how_it_runs(tmp_path / "r"), Journal(tmp_path / "r")
    for step in (lambda: deployed(bundles[1], control), lambda: rolled_back(control)):
        step()
        assert getattr(running_options(journal), name) == value
        assert running_options(journal) == options
        assert how_it_runs(tmp_path / "r") == wanted
        assert [len(control.versions(stage)) for stage in journal.model_set.stages] == (
            [options.loaded_versions] * len(journal.model_set.stages)
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", FIELDS)
def test_it_outlives_a_kill_and_a_restart(bundles: tuple[Bundle, Bundle], tmp_path: Path, name: str) -> None:
    """The next server loads what stands in the repository, and the next deployment knows how it runs."""
    value, others = VALUES[name]
    options, root = ServingOptions(**{name: value}, **others), tmp_path / "r"
    control = served(bundles[0], root, options)
    deployed(bundles[1], control)
    rolled_back(control)
    wanted = how_it_runs(root)
    again = FakeControl(root)
    for model in standing_repository(root, "r").models:
        again.load(model)
    assert how_it_runs(root) == wanted
    assert again.loaded == control.loaded
    deployed(bundles[1], again)
    assert running_options(Journal(root)) == options
    assert how_it_runs(root) == wanted


@pytest.mark.parametrize(
    "name", [name for name in FIELDS if name not in {"streams", "loaded_versions", "memory_gb", "arena"}]
)
def test_it_is_read_from_a_repository_that_keeps_no_options(
    bundles: tuple[Bundle, Bundle], tmp_path: Path, name: str
) -> None:
    value, others = VALUES[name]
    options = ServingOptions(**{name: value}, **others)
    served(bundles[0], tmp_path / "r", options)
    wanted = how_it_runs(tmp_path / "r")
    forget_options(tmp_path / "r")
    plan = plan_deployment(bundles[0], tmp_path / "r")
    assert getattr(plan.options, name) == value
    write_plan(plan, tmp_path / "found")
    found = how_it_runs(tmp_path / "found")
    assert [found[model] for model in PLAIN.stages] == [wanted[model] for model in PLAIN.stages]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FIELDS if name != "streams"])
def test_a_deployment_changes_it_and_a_rollback_takes_that_back(
    bundles: tuple[Bundle, Bundle], tmp_path: Path, name: str
) -> None:
    value, others = VALUES[name]
    before = ServingOptions(**others)
    control = served(bundles[0], tmp_path / "r", before)
    first = how_it_runs(tmp_path / "r")
    served(bundles[0], tmp_path / "wanted", dataclasses.replace(before, **{name: value}))
    deployed(bundles[1], control, **{name: value})
    assert how_it_runs(tmp_path / "r") == how_it_runs(tmp_path / "wanted")
    deployed(bundles[0], control, **{name: getattr(ServingOptions(), name)})
    assert how_it_runs(tmp_path / "r") == first
    rolled_back(control)
    assert how_it_runs(tmp_path / "r") == how_it_runs(tmp_path / "wanted")


@pytest.mark.parametrize("batches", [(8, 3), (3, 8)])
def test_the_ensemble_stays_while_the_largest_batch_changes(
    bundles: tuple[Bundle, Bundle], tmp_path: Path, batches: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    control = served(bundles[0], tmp_path / "r", ServingOptions(max_batch=batches[0]))
    loads, load = [], control.load

    def watched(model: str) -> None:
        load(model)
        loads.append(ENSEMBLE_MODEL in control.loaded)

    monkeypatch.setattr(control, "load", watched)
    deployed(bundles[1], control, max_batch=batches[1])
    assert {config.max_batch_size for config in control.loaded.values()} == {batches[1]}
    rolled_back(control)
    assert {config.max_batch_size for config in control.loaded.values()} == {batches[0]}
    assert all(loads)


def test_options_outlive_a_deployment_of_another_model(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    options = ServingOptions(threads=3, max_batch=4, loaded_versions=2)
    control = served(bundles[0], tmp_path / "r", options)
    other = make_tiny_bundle(tmp_path / "other", seed=2, architectures=("efficientnet-lite0", "pooling"))
    deployed(other, control)
    assert running_options(Journal(tmp_path / "r")) == options
    extractor = Journal(tmp_path / "r").model_set.stages[0]
    assert extractor not in PLAIN.stages
    assert control.versions(extractor) == [2]
    plan, wrong = plan_deployment(other, control.root), golden_clips_of(bundles[0], "onnx-fp32", "onnx-fp32")
    with pytest.raises(RolloutError, match="version 2 serves as before"):
        deploy(plan, cast("ModelControl", control), control.root, wrong)
    pinned = (tmp_path / "r" / extractor / CONFIG).read_text()
    assert "versions: 2" in pinned
    assert "versions: 1" not in pinned
    rolled_back(control)
    assert running_options(Journal(tmp_path / "r")) == options


def test_streams_change_their_limit_alone(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    control = served(bundles[0], tmp_path / "r", ServingOptions(streams=StreamOptions(5, 7.0)))
    deployed(bundles[1], control, **named_options(streams=9))
    assert running_options(Journal(tmp_path / "r")).streams == StreamOptions(9, 7.0)
    with pytest.raises(RepositoryError, match=r"a deployment neither adds nor removes .* --streams 0 would; leave it"):
        deployed(bundles[0], control, **named_options(streams=0))


def test_streams_are_not_added(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    control = served(bundles[0], tmp_path / "r", ServingOptions())
    with pytest.raises(RepositoryError, match=r"a deployment neither adds nor removes .* --streams 9 would"):
        deployed(bundles[1], control, **named_options(streams=9))
    assert Journal(tmp_path / "r").versions() == [1]


def test_acceleration_that_the_running_server_would_misplace(
    bundles: tuple[Bundle, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(bundles[0], tmp_path / "r", ServingOptions())
    control = mock.MagicMock()
    control.__enter__.return_value.server_version.return_value = "2.51.0"
    monkeypatch.setattr(RunningServer, "control", lambda *_: control)
    changes = {"gpus": (0, 1), "accelerate": True}
    request = DeployRequest(
        bundles[1].root, RunningServer("fake:1", str(tmp_path / "r")), StageRequest(None, changes=changes)
    )
    with pytest.raises(RepositoryError, match=r"accelerate: Triton 2.51.0 does not tell TensorRT .* GPU 0 for 0,1"):
        deploy_bundle(request)
    assert Journal(tmp_path / "r").versions() == [1]


def test_each_stage_keeps_its_backend(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    control = served(bundles[0], tmp_path / "r", ServingOptions())
    config = tmp_path / "r" / EXTRACTOR_MODEL / CONFIG
    config.write_text(config.read_text().replace('backend: "onnxruntime"', 'backend: "python"'))
    assert running_backends(Journal(tmp_path / "r")) == ("python", "onnxruntime")
    plan = plan_deployment(bundles[1], control.root)
    assert (plan.extractor.backend, plan.classifier.backend) == ("python", "onnxruntime")


@pytest.mark.parametrize(("threads", "cores", "each"), [(None, 6, "3"), (None, None, "0"), (4, 6, "2"), (1, 6, "1")])
def test_instances_in_onnxruntime_share_the_cores(
    bundles: tuple[Bundle, Bundle], tmp_path: Path, threads: int | None, cores: int | None, each: str
) -> None:
    where = Surroundings(cores=cores)
    request = StageRequest("onnxruntime", options=ServingOptions(instances=2, threads=threads))
    plan = plan_serving(bundles[0], tmp_path, request, where)
    config = text_format.Parse(plan.configs()[EXTRACTOR_MODEL], model_config_pb2.ModelConfig())
    assert config.parameters["intra_op_thread_count"].string_value == each
    (said,) = (check.detail for check in preflight(plan, tmp_path, where) if check.subject == "threads")
    wanted = "each of 2 instances takes all cores; have them share with --threads"
    assert said == (wanted if each == "0" else f"2 instances, {each} threads each")
    write_plan(plan, tmp_path)
    changed = plan_deployment(bundles[1], tmp_path, StageRequest(None, changes={"instances": 3}), Surroundings(cores=9))
    assert changed.options.threads_of_instance == max(1, (threads or cores or 9) // 3)


def test_an_instance_in_onnxruntime_takes_all_cores(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    plan = plan_serving(bundles[0], tmp_path, StageRequest("onnxruntime"), Surroundings(cores=6))
    assert plan.options.threads is None


@pytest.mark.parametrize("kept", ['{"instances": 0}', '{"instances": "many"}', "[1", "3"])
def test_options_that_cannot_be_read(bundles: tuple[Bundle, Bundle], tmp_path: Path, kept: str) -> None:
    served(bundles[0], tmp_path / "r", ServingOptions())
    file = tmp_path / "r" / ENSEMBLE_MODEL / CONFIG
    config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
    config.parameters[OPTIONS_PARAMETER].string_value = kept
    file.write_text(text_format.MessageToString(config))
    with pytest.raises(RepositoryError) as caught:
        running_options(Journal(tmp_path / "r"))
    assert "\n" not in str(caught.value)


def test_options_of_a_newer_vdeploy_are_left_out(bundles: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    served(bundles[0], tmp_path / "r", ServingOptions(threads=2))
    file = tmp_path / "r" / ENSEMBLE_MODEL / CONFIG
    config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
    entry = config.parameters[OPTIONS_PARAMETER]
    entry.string_value = json.dumps(json.loads(entry.string_value) | {"colour": "blue"})
    file.write_text(text_format.MessageToString(config))
    assert running_options(Journal(tmp_path / "r")) == ServingOptions(threads=2)


def test_options_of_the_command_line() -> None:
    named = named_options(instances=2, gpus="0,1", warmup="1,4", max_batch=None, streams=3, accelerate=True)
    assert named == {
        "instances": 2,
        "gpus": (0, 1),
        "warmup_batches": (1, 4),
        "streams": StreamOptions(3),
        "accelerate": True,
    }
    assert reset_options(["max-batch", "--warmup", "gpus", "instances"]) == {
        "max_batch": None,
        "warmup_batches": None,
        "gpus": (),
        "instances": 1,
    }
    with pytest.raises(RepositoryError, match=r"--reset colour names no option .*; there are instances, threads, gpus"):
        reset_options(["colour"])
