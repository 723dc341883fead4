"""What the generator writes for each backend, against a repository that a person has read: `golden/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.repository.backends import Backend, ServedStage
from vdeploy.triton.repository.kept_options import options_to_dict
from vdeploy.triton.repository.model_configs import render_configs
from vdeploy.triton.repository.model_set import PLAIN
from vdeploy.triton.repository.options import ServingOptions

EXTRACTOR, CLASSIFIER, ENSEMBLE = PLAIN.models
GOLDEN = Path(__file__).with_name("golden")
CPU, GPU = model_config_pb2.ModelInstanceGroup.KIND_CPU, model_config_pb2.ModelInstanceGroup.KIND_GPU

CASES: dict[str, tuple[tuple[str, Backend], tuple[str, Backend], ServingOptions]] = {
    "python": (("onnx-int8", "python"), ("onnx-fp32", "python"), ServingOptions(instances=2, threads=4)),
    "onnxruntime": (
        ("onnx-fp32", "onnxruntime"),
        ("onnx-fp32", "onnxruntime"),
        ServingOptions(latency_budget_ms=100, max_queue=64, loaded_versions=2, warmup_batches=(1, 4)),
    ),
    "accelerated": (
        ("onnx-fp16", "onnxruntime"),
        ("onnx-fp32", "onnxruntime"),
        ServingOptions(gpus=(0, 1), accelerate=True, max_batch=16),
    ),
    "tensorrt": (("tensorrt-int8", "tensorrt"), ("tensorrt-int8", "tensorrt"), ServingOptions()),
}


def parsed(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def parameters(config: Any) -> dict[str, str]:
    return {name: entry.string_value for name, entry in config.parameters.items()}


def rendered(
    bundle: Bundle, backend: Backend = "python", *, limit: int | None = None, name: str = "", **options: Any
) -> dict[str, Any]:
    name = name or ("tensorrt-fp16" if backend == "tensorrt" else "onnx-fp32")
    stages = ServedStage("extractor", name, backend, limit), ServedStage("classifier", name, backend)
    return {
        name: parsed(text) for name, text in render_configs(bundle.manifest, *stages, ServingOptions(**options)).items()
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("model", PLAIN.models[:2])
def test_a_stage_is_what_a_person_has_read(bundle: Bundle, case: str, model: str) -> None:
    extractor, classifier, options = CASES[case]
    stages = ServedStage("extractor", *extractor), ServedStage("classifier", *classifier)
    found = render_configs(bundle.manifest, *stages, options)[model]
    assert parsed(found) == parsed((GOLDEN / case / f"{model}.pbtxt").read_text(encoding="utf-8"))


class TestConfigs:
    def test_tensors_of_the_three_models_fit_together(self, bundle: Bundle) -> None:
        configs = rendered(bundle)
        assert tuple(configs) == PLAIN.models
        extractor, classifier, ensemble = configs.values()
        assert (extractor.input[0].name, list(extractor.input[0].dims)) == ("frames", [-1, 32, 32, 3])
        assert extractor.input[0].data_type == ensemble.input[0].data_type == model_config_pb2.TYPE_UINT8
        assert (extractor.output[0].name, list(extractor.output[0].dims)) == ("features", [-1, 8])
        assert (classifier.input[0].name, list(classifier.input[0].dims)) == ("features", [4, 8])
        assert list(ensemble.input[0].dims) == [4, 32, 32, 3]
        for config in (classifier, ensemble):
            assert (config.output[0].name, list(config.output[0].dims)) == ("probabilities", [2])
            assert config.output[0].label_filename == "labels.txt"
        assert [
            (step.model_name, step.model_version, dict(step.input_map), dict(step.output_map))
            for step in ensemble.ensemble_scheduling.step
        ] == [
            (EXTRACTOR, -1, {"frames": "frames"}, {"features": "features"}),
            (CLASSIFIER, -1, {"features": "features"}, {"probabilities": "probabilities"}),
        ]

    def test_every_model_serves_its_newest_version_in_batches_of_eight(self, bundle: Bundle) -> None:
        for config in rendered(bundle).values():
            assert config.max_batch_size == 8
            assert config.version_policy.latest.num_versions == 1
            assert config.HasField("response_cache")
            assert not config.response_cache.enable

    def test_stages_run_on_the_cpu_and_merge_requests(self, bundle: Bundle) -> None:
        configs = rendered(bundle, instances=3)
        for name in (EXTRACTOR, CLASSIFIER):
            config = configs[name]
            assert [(group.kind, group.count) for group in config.instance_group] == [(CPU, 3)]
            assert not config.dynamic_batching.HasField("default_queue_policy"), "it stalls Triton 2.51"
            assert 0 < config.dynamic_batching.max_queue_delay_microseconds <= 5000
        assert not configs[ENSEMBLE].instance_group

    def test_threads_are_the_servers_business_unless_told(self, bundle: Bundle) -> None:
        def threads(backend: Backend, **more: int) -> list[dict[str, str]]:
            configs = rendered(bundle, backend, **more)
            return [parameters(configs[name]) for name in (EXTRACTOR, CLASSIFIER)]

        assert threads("python") == [
            {"intra_op_num_threads": "0", "max_clips_per_run": "1"},
            {"intra_op_num_threads": "1", "max_clips_per_run": "0"},
        ]
        assert threads("python", threads=6)[0]["intra_op_num_threads"] == "6"
        assert threads("onnxruntime", threads=6) == [
            {"intra_op_thread_count": "6", "inter_op_thread_count": "1"},
            {"intra_op_thread_count": "1", "inter_op_thread_count": "1"},
        ]

    def test_ensemble_tells_clients_what_they_must_know(self, bundle: Bundle) -> None:
        config = rendered(bundle)[ENSEMBLE]
        told = {name: json.loads(value) for name, value in parameters(config).items()}
        digest = told.pop("bundle_sha256")
        assert told.pop("serving") == json.loads(json.dumps(options_to_dict(ServingOptions())))
        assert told == {
            "bias": 0.0,
            "classes": ["non-violent", "violent"],
            "clip": {"frames": 4, "size": 32, "sampling": "uniform", "interpolation": "area"},
            "extractor_dim": 8,
            "formats": {"classifier": "onnx-fp32", "extractor": "onnx-fp32"},
            "run": "tiny",
            "temperature": 1.0,
            "threshold": 0.5,
        }
        assert len(digest) == 64
        other = bundle.manifest.model_copy(update={"threshold": 0.6, "bias": -0.25, "clip_seconds": 1.5})
        stages = ServedStage("extractor", "onnx-fp32", "python"), ServedStage("classifier", "onnx-fp32", "python")
        config = parsed(render_configs(other, *stages)[ENSEMBLE])
        assert json.loads(parameters(config)["bundle_sha256"]) != digest
        assert json.loads(parameters(config)["bias"]) == -0.25
        assert json.loads(parameters(config)["clip_seconds"]) == 1.5

    def test_same_manifest_gives_the_same_text(self, bundle: Bundle) -> None:
        stages = ServedStage("extractor", "onnx-fp32", "python"), ServedStage("classifier", "onnx-fp32", "python")
        assert render_configs(bundle.manifest, *stages) == render_configs(Bundle(bundle.root).manifest, *stages)


class TestOptions:
    def test_a_tenth_of_the_latency_budget_may_be_spent_waiting(self, bundle: Bundle) -> None:
        configs = rendered(bundle, latency_budget_ms=200)
        delays = [configs[name].dynamic_batching.max_queue_delay_microseconds for name in (EXTRACTOR, CLASSIFIER)]
        assert delays == [18_000, 2_000]

    def test_a_bounded_queue_rejects_what_waits_longer_than_the_budget(self, bundle: Bundle) -> None:
        policy = rendered(bundle, max_queue=32, latency_budget_ms=200)[EXTRACTOR].dynamic_batching.default_queue_policy
        assert (policy.max_queue_size, policy.default_timeout_microseconds) == (32, 200_000)
        assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
        assert policy.allow_timeout_override
        policy = rendered(bundle, max_queue=32)[EXTRACTOR].dynamic_batching.default_queue_policy
        assert policy.default_timeout_microseconds == 600_000_000, "without one, Triton ignores those of requests"

    def test_both_stages_on_two_gpus_take_turns(self, bundle: Bundle) -> None:
        configs = rendered(bundle, "onnxruntime", gpus=(0, 2))
        for name, priority in ((EXTRACTOR, 2), (CLASSIFIER, 1)):
            (group,) = configs[name].instance_group
            assert (group.kind, group.count, list(group.gpus)) == (GPU, 1, [0, 2])
            assert [(need.name, need.count) for need in group.rate_limiter.resources] == [("gpu", 1)]
            assert group.rate_limiter.priority == priority

    def test_several_copies_do_not_take_turns(self, bundle: Bundle) -> None:
        (group,) = rendered(bundle, "onnxruntime", gpus=(0,), instances=2)[EXTRACTOR].instance_group
        assert group.count == 2
        assert not group.HasField("rate_limiter")

    def test_an_engine_is_on_the_first_gpu_unless_told(self, bundle: Bundle) -> None:
        (group,) = rendered(bundle, "tensorrt")[EXTRACTOR].instance_group
        assert (group.kind, list(group.gpus), list(group.profile)) == (GPU, [0], ["0"])

    def test_all_models_take_the_batch_of_the_smallest_engine(self, bundle: Bundle) -> None:
        assert {config.max_batch_size for config in rendered(bundle, "tensorrt", limit=4).values()} == {4}
        assert {config.max_batch_size for config in rendered(bundle, "tensorrt", limit=64).values()} == {8}
        assert {config.max_batch_size for config in rendered(bundle, max_batch=32).values()} == {32}

    def test_warm_up_samples_are_whole_clips(self, bundle: Bundle) -> None:
        configs = rendered(bundle, "onnxruntime", warmup_batches=(1, 4), gpus=(0,))
        assert [(warm_up.name, warm_up.batch_size) for warm_up in configs[EXTRACTOR].model_warmup] == [
            ("batch_1", 1),
            ("batch_4", 4),
        ]
        assert list(configs[EXTRACTOR].model_warmup[0].inputs["frames"].dims) == [4, 32, 32, 3]
        assert list(configs[CLASSIFIER].model_warmup[0].inputs["features"].dims) == [4, 8]

    @pytest.mark.parametrize(("name", "mode"), [("onnx-fp32", "FP32"), ("onnx-fp16", "FP16")])
    def test_onnx_runtime_may_hand_over_to_tensorrt(self, bundle: Bundle, name: str, mode: str) -> None:
        config = rendered(bundle, "onnxruntime", name=name, gpus=(0,), accelerate=True)[EXTRACTOR]
        (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        assert (accelerator.name, dict(accelerator.parameters)) == ("tensorrt", {"precision_mode": mode})

    @pytest.mark.parametrize(
        ("backend", "options", "message"),
        [
            ("python", {"gpus": (0,)}, "the python backend runs the extractor on the CPU and ignores --gpus"),
            ("python", {"accelerate": True}, "--accelerate has no effect on the extractor, which python runs"),
            ("onnxruntime", {"accelerate": True}, "--accelerate has no effect .*add --backend onnxruntime --gpus 0"),
            (
                "onnxruntime",
                {"accelerate": True, "gpus": (0,), "name": "onnx-int8"},
                "--accelerate cannot take the extractor in onnx-int8",
            ),
            (
                "tensorrt",
                {"limit": 4, "max_batch": 8},
                "takes 4 clips at most, not 8, and all models of an ensemble must take the same number",
            ),
            ("python", {"warmup_batches": (16,)}, "a warm-up with 16 clips is more than the 8 of a request"),
            ("python", {"warmup_batches": (0,)}, "a warm-up with 0 clips is none"),
            ("python", {"instances": 0}, "--instances is 0; give a number above 0"),
            ("python", {"latency_budget_ms": -1.0}, "--latency-budget-ms is -1.0"),
            ("python", {"loaded_versions": 0}, "--loaded-versions is 0"),
            ("onnxruntime", {"gpus": (1, 1)}, "--gpus 1,1 does not name GPUs"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, bundle: Bundle, backend: Backend, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(RepositoryError, match=message):
            rendered(bundle, backend, **options)
