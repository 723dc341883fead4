"""Repositories of servers that keep streams: what is written, what comes and goes by --streams, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from testing.tiny_bundle import make_tiny_bundle
from tests.triton.planning.conftest import publish
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.names import (
    CLASSIFIER_MODEL,
    CONFIG,
    EXTRACTOR_MODEL,
    STAGES,
    STREAM_MODEL,
    STREAM_MODELS,
    WINDOW_MODEL,
)
from vdeploy.triton.planning.checks import Check, Surroundings, refuse_failures
from vdeploy.triton.planning.plans import StageRequest
from vdeploy.triton.planning.preflight import preflight
from vdeploy.triton.repository.backends import Backend, ServedStage
from vdeploy.triton.repository.kept_options import OPTIONS_PARAMETER
from vdeploy.triton.repository.model_configs import render_configs
from vdeploy.triton.repository.model_set import PLAIN, model_set_for, model_set_of, stages_called_by, streams_of
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.serving_plan import ServingPlan
from vdeploy.triton.repository.version_policy import pin_ensemble, pinned_version
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.s3.keys import is_ours, version_of, writing_order
from vdeploy.triton.server.install import TritonInstall

GOLDEN = Path(__file__).with_name("golden") / "streams"


def configs(bundle: Bundle, backend: Backend = "onnxruntime", name: str = "onnx-fp32") -> dict[str, str]:
    stages = ServedStage("extractor", name, backend), ServedStage("classifier", "onnx-fp32", "onnxruntime")
    return render_configs(bundle.manifest, *stages, ServingOptions(streams=StreamOptions(100, 30)))


def parsed(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def keeping(count: int) -> ServingOptions:
    return ServingOptions(streams=StreamOptions(count))


@pytest.mark.parametrize("model", STREAM_MODELS)
def test_a_model_is_what_a_person_has_read(bundle: Bundle, model: str) -> None:
    found = parsed(configs(bundle)[model])
    if model == STREAM_MODEL:
        assert found.parameters == parsed(configs(bundle)["violence_detector"]).parameters
        found.ClearField("parameters")
    assert found == parsed((GOLDEN / f"{model}.pbtxt").read_text(encoding="utf-8"))


def without_options(text: str) -> Any:
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    config.parameters.pop(OPTIONS_PARAMETER, None)
    return config


def test_the_ordinary_models_stay_as_they_are(bundle: Bundle) -> None:
    stages = ServedStage("extractor", "onnx-fp32", "python"), ServedStage("classifier", "onnx-fp32", "python")
    plain = render_configs(bundle.manifest, *stages)
    with_streams = render_configs(bundle.manifest, *stages, keeping(5))
    assert tuple(plain) == PLAIN.models
    assert tuple(with_streams) == model_set_for(STAGES, streams=True).models
    assert {model: without_options(with_streams[model]) for model in plain} == {
        model: without_options(text) for model, text in plain.items()
    }


def test_an_engine_takes_no_single_frames(bundle: Bundle) -> None:
    with pytest.raises(RepositoryError, match="the extractor in tensorrt-fp16 takes whole clips; serve it in an onnx-"):
        configs(bundle, "tensorrt", "tensorrt-fp16")


def test_a_model_of_whole_clips_takes_no_single_frames(bundle: Bundle) -> None:
    extractor = ServedStage("extractor", "onnx-fp32", "python", architecture="i3d", granularity="clip")
    classifier = ServedStage("classifier", "onnx-fp32", "python", architecture="pooling")
    with pytest.raises(RepositoryError, match="i3d looks at the frames of a clip together; leave --streams out"):
        render_configs(bundle.manifest, extractor, classifier, keeping(5))
    render_configs(bundle.manifest, extractor, classifier)


def test_frames_of_a_causal_model_go_where_its_windows_are_kept(bundle: Bundle) -> None:
    extractor = ServedStage("extractor", "onnx-int8", "python", granularity="clip", past_frames=3, has_stream=True)
    classifier = ServedStage("classifier", "onnx-int8", "python")
    found = render_configs(bundle.manifest, extractor, classifier, dataclasses.replace(keeping(5), threads=2))
    window, stream = parsed(found[WINDOW_MODEL]), parsed(found[STREAM_MODEL])
    assert [(tensor.name, list(tensor.dims)) for tensor in window.input] == [
        ("frames", [-1, 32, 32, 3]),
        ("missing", [-1]),
    ]
    assert window.parameters["intra_op_num_threads"].string_value == "2"
    assert stages_called_by(found[STREAM_MODEL]) == (WINDOW_MODEL, classifier.model)
    assert dict(stream.ensemble_scheduling.step[0].input_map) == {"frames": "frames", "missing": "missing"}
    for text, taken in ((found[WINDOW_MODEL], "frames"), (configs(bundle)[WINDOW_MODEL], "features")):
        assert model_set_for(STAGES, streams=True, window=text).window_input == taken


def test_a_causal_model_without_its_streaming_form_keeps_no_streams(bundle: Bundle) -> None:
    extractor = ServedStage("extractor", "onnx-int8", "python", architecture="x", granularity="clip", past_frames=3)
    classifier = ServedStage("classifier", "onnx-int8", "python")
    with pytest.raises(RepositoryError, match="streams of x need its streaming form, which the bundle lacks; add"):
        render_configs(bundle.manifest, extractor, classifier, keeping(5))


def test_every_step_is_pinned(bundle: Bundle) -> None:
    pinned = pin_ensemble(configs(bundle)[STREAM_MODEL], 4)
    assert pinned_version(pinned) == 4
    assert pinned.count("model_version: 4") == 3


def test_streams_come_stay_and_go(bundle: Bundle, tmp_path: Path) -> None:
    assert streams_of(tmp_path) is None
    repository = write_repository(bundle, tmp_path, options=ServingOptions(streams=StreamOptions(7, 2.5)))
    repository.check()
    assert (repository.models, repository.version) == (model_set_for(STAGES, streams=True).models, 1)
    assert streams_of(tmp_path) == StreamOptions(7, 2.5)
    assert [file.name for file in (tmp_path / WINDOW_MODEL / "1").iterdir()] == ["model.py"]
    assert (tmp_path / STREAM_MODEL / "labels.txt").is_file()
    assert not (tmp_path / WINDOW_MODEL / "labels.txt").exists()

    again = write_repository(make_tiny_bundle(tmp_path / "other", seed=1), tmp_path)
    assert (again.models, again.version) == (model_set_for(STAGES, streams=True).models, 2)
    assert streams_of(tmp_path) == StreamOptions(7, 2.5)
    assert Journal(tmp_path).versions() == [1, 2]

    more = write_repository(Bundle(tmp_path / "other"), tmp_path, options=keeping(9))
    assert more.version == 2
    assert streams_of(tmp_path) == StreamOptions(9)

    gone = write_repository(Bundle(tmp_path / "other"), tmp_path, options=keeping(0))
    gone.check()
    assert (gone.models, gone.version) == (PLAIN.models, 2)
    assert model_set_of(tmp_path) == PLAIN
    assert not [model for model in STREAM_MODELS if (tmp_path / model).exists()]


def test_streams_are_added_to_the_version_that_is_there(bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path)
    added = write_repository(bundle, tmp_path, options=keeping(3))
    assert (added.version, added.backends) == (1, ("python",))
    added.check()


def test_the_keeper_needs_the_python_backend_beside_others(bundle: Bundle, tmp_path: Path) -> None:
    repository = write_repository(bundle, tmp_path, backend="onnxruntime", options=keeping(3))
    assert repository.backends == ("onnxruntime", "python")
    assert [file.name for file in (tmp_path / EXTRACTOR_MODEL / "1").iterdir()] == ["model.onnx"]
    repository.check()


@pytest.mark.parametrize("missing", [f"{WINDOW_MODEL}/1/model.py", f"{STREAM_MODEL}/labels.txt"])
def test_check_names_a_missing_file(bundle: Bundle, tmp_path: Path, missing: str) -> None:
    repository = write_repository(bundle, tmp_path, options=keeping(3))
    (tmp_path / missing).unlink()
    with pytest.raises(RepositoryError, match=f"{missing} is missing from the model repository"):
        repository.check()


def test_a_sample_has_every_input(bundle: Bundle, tmp_path: Path) -> None:
    repository = write_repository(bundle, tmp_path, options=keeping(3))
    shapes = {name: array.shape for name, array in repository.sample(STREAM_MODEL).items()}
    assert shapes == {"frames": (1, 1, 32, 32, 3), "missing": (1, 1)}


def test_a_broken_configuration_is_one_line(bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path, options=keeping(3))
    (tmp_path / WINDOW_MODEL / CONFIG).write_text('name: "violence_window"')
    with pytest.raises(
        RepositoryError, match=r"violence_window/config.pbtxt cannot be read .*; say how many streams: --"
    ) as caught:
        write_repository(bundle, tmp_path)
    assert "\n" not in str(caught.value)
    write_repository(bundle, tmp_path, options=keeping(4)).check()


@pytest.mark.parametrize(("limit", "idle_s", "told"), [(-1, 60, "--streams is -1"), (1, 0, "streams are kept for 0 s")])
def test_numbers_out_of_range_are_refused(limit: int, idle_s: float, told: str) -> None:
    with pytest.raises(RepositoryError, match=told):
        StreamOptions(limit, idle_s)


class TestPreflight:
    def checks(
        self, bundle: Bundle, root: Path, backend: Backend, install: TritonInstall | None = None
    ) -> tuple[Check, ...]:
        stages = ServedStage("extractor", "onnx-fp32", backend), ServedStage("classifier", "onnx-fp32", "onnxruntime")
        return preflight(ServingPlan(bundle, *stages, keeping(8)), root, Surroundings(install=install))

    def test_says_how_many(self, bundle: Bundle, tmp_path: Path) -> None:
        checks = self.checks(bundle, tmp_path, "onnxruntime")
        assert "ok: streams: the python backend keeps the windows of 8 at most" in [str(check) for check in checks]

    def test_looks_for_the_backend(self, bundle: Bundle, tmp_path: Path) -> None:
        (tmp_path / "onnxruntime").mkdir()
        (tmp_path / "onnxruntime" / "libtriton_onnxruntime.so").touch()
        install = TritonInstall(tmp_path / "tritonserver", tmp_path, {}, tmp_path / "lib", "2.51.0", "a test")
        with pytest.raises(RepositoryError, match="streams: the Triton server of a test has no python backend"):
            refuse_failures(self.checks(bundle, tmp_path, "onnxruntime", install))

    def test_refuses_an_engine(self, bundle: Bundle, tmp_path: Path) -> None:
        failed = [check for check in self.checks(bundle, tmp_path, "tensorrt") if check.subject == "streams"]
        assert "takes whole clips" in failed[0].detail

    def test_a_path_that_the_keeper_cannot_work_in(self, bundle: Bundle, tmp_path: Path) -> None:
        with pytest.raises(RepositoryError, match="there is a space in it"):
            refuse_failures(self.checks(bundle, tmp_path / "a b", "onnxruntime"))

    def test_looks_at_the_streams_that_a_repository_keeps_already(self, bundle: Bundle, tmp_path: Path) -> None:
        write_repository(bundle, tmp_path, options=keeping(6))
        published = publish(bundle, tmp_path, StageRequest(backend="python"))
        assert "ok: streams: the python backend keeps the windows of 6 at most" in map(str, published.checks)
        assert published.repository.models == model_set_for(STAGES, streams=True).models


def test_a_bucket_holds_the_models_of_streams_too() -> None:
    keys = [f"{STREAM_MODEL}/{CONFIG}", f"{CLASSIFIER_MODEL}/{CONFIG}", f"{WINDOW_MODEL}/2/model.py"]
    assert all(is_ours(key) for key in keys)
    assert [version_of(key) for key in keys] == [None, None, 2]
    assert sorted(keys, key=writing_order) == keys[::-1]
