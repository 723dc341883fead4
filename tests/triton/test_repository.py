from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.tiny_bundle import make_tiny_bundle
from training.files import sha256_of, write_json
from vdeploy.bundle import Bundle
from vdeploy.errors import BundleError, RepositoryError
from vdeploy.triton.configs import render_configs
from vdeploy.triton.install import TritonInstall
from vdeploy.triton.names import MODELS
from vdeploy.triton.repository import Repository, write_repository

EXTRACTOR, CLASSIFIER, ENSEMBLE = MODELS


def parsed(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def parameters(config: model_config_pb2.ModelConfig) -> dict[str, str]:
    return {name: entry.string_value for name, entry in config.parameters.items()}


def files_of(root: Path) -> dict[str, tuple[int, int]]:
    return {
        file.relative_to(root).as_posix(): (file.stat().st_ino, file.stat().st_mtime_ns) for file in root.rglob("*")
    }


def rewritten(bundle: Bundle, **changes: object) -> Bundle:
    values = bundle.manifest.model_dump(mode="json") | changes
    write_json(bundle.root / "bundle.json", values)
    return Bundle(bundle.root)


def fake_install(folder: Path, *backends: str) -> TritonInstall:
    for name in backends:
        (folder / name).mkdir(parents=True)
        (folder / name / f"libtriton_{name}.so").touch()
    return TritonInstall(folder / "tritonserver", folder, {}, folder / "lib", "2.51.0", "a test")


class TestConfigs:
    def test_tensors_of_the_three_models_fit_together(self, bundle: Bundle) -> None:
        configs = {name: parsed(text) for name, text in render_configs(bundle.manifest, "python").items()}
        assert tuple(configs) == MODELS
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
        for text in render_configs(bundle.manifest, "python").values():
            assert parsed(text).max_batch_size == 8
            assert parsed(text).version_policy.latest.num_versions == 1

    def test_stages_run_on_the_cpu_and_merge_requests(self, bundle: Bundle) -> None:
        configs = render_configs(bundle.manifest, "python", instances=3)
        for name in (EXTRACTOR, CLASSIFIER):
            config = parsed(configs[name])
            assert [(group.kind, group.count) for group in config.instance_group] == [
                (model_config_pb2.ModelInstanceGroup.KIND_CPU, 3)
            ]
            assert not config.dynamic_batching.HasField("default_queue_policy"), "it stalls Triton 2.51"
            assert 0 < config.dynamic_batching.max_queue_delay_microseconds <= 5000
        assert not parsed(configs[ENSEMBLE]).instance_group

    def test_threads_are_the_servers_business_unless_told(self, bundle: Bundle) -> None:
        def threads(backend: str, **more: int) -> list[dict[str, str]]:
            configs = render_configs(bundle.manifest, backend, **more)
            return [parameters(parsed(configs[name])) for name in (EXTRACTOR, CLASSIFIER)]

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
        config = parsed(render_configs(bundle.manifest, "python")[ENSEMBLE])
        told = {name: json.loads(value) for name, value in parameters(config).items()}
        digest = told.pop("bundle_sha256")
        assert told == {
            "classes": ["non-violent", "violent"],
            "clip": {"frames": 4, "size": 32, "sampling": "uniform", "interpolation": "area"},
            "extractor_dim": 8,
            "run": "tiny",
            "temperature": 1.0,
            "threshold": 0.5,
        }
        assert len(digest) == 64
        other = bundle.manifest.model_copy(update={"threshold": 0.6})
        assert json.loads(parameters(parsed(render_configs(other, "python")[ENSEMBLE]))["bundle_sha256"]) != digest

    def test_same_manifest_gives_the_same_text(self, bundle: Bundle) -> None:
        again = Bundle(bundle.root).manifest
        assert render_configs(bundle.manifest, "python") == render_configs(again, "python")


class TestWriting:
    def test_a_new_repository(self, bundle: Bundle, tmp_path: Path) -> None:
        root = tmp_path / "deep" / "triton_repo"
        repository = write_repository(bundle, root)
        assert repository == Repository(root, 1, MODELS, "python")
        assert {name for name in files_of(root) if (root / name).is_file()} == {
            *(f"{name}/config.pbtxt" for name in MODELS),
            f"{CLASSIFIER}/labels.txt",
            f"{ENSEMBLE}/labels.txt",
            *(f"{name}/1/{file}" for name in (EXTRACTOR, CLASSIFIER) for file in ("model.onnx", "model.py")),
        }
        for stage, name in (("extractor", EXTRACTOR), ("classifier", CLASSIFIER)):
            source = bundle.root / stage / "onnx-fp32" / "model.onnx"
            assert (root / name / "1" / "model.onnx").samefile(source)
        assert (root / ENSEMBLE / "1").is_dir()
        assert (root / CLASSIFIER / "labels.txt").read_text() == "non-violent\nviolent\n"
        repository.check()

    def test_onnxruntime_backend_needs_no_code(self, bundle: Bundle, tmp_path: Path) -> None:
        repository = write_repository(bundle, tmp_path, backend="onnxruntime")
        assert [file.name for file in (tmp_path / EXTRACTOR / "1").iterdir()] == ["model.onnx"]
        assert parsed((tmp_path / EXTRACTOR / "config.pbtxt").read_text()).backend == "onnxruntime"
        repository.check()

    @pytest.mark.parametrize(
        ("backends", "chosen"), [(("python",), "python"), (("python", "onnxruntime"), "onnxruntime")]
    )
    def test_auto_takes_what_the_server_has(
        self, bundle: Bundle, tmp_path: Path, backends: tuple[str, ...], chosen: str
    ) -> None:
        install = fake_install(tmp_path / "backends", *backends)
        assert write_repository(bundle, tmp_path / "r", backend="auto", install=install).backend == chosen

    def test_same_bundle_again_touches_nothing(self, bundle: Bundle, tmp_path: Path) -> None:
        write_repository(bundle, tmp_path)
        before = files_of(tmp_path)
        assert write_repository(bundle, tmp_path).version == 1
        assert files_of(tmp_path) == before

    def test_another_bundle_is_the_next_version_and_the_old_one_stays(self, bundle: Bundle, tmp_path: Path) -> None:
        write_repository(bundle, tmp_path / "r")
        other = make_tiny_bundle(tmp_path / "other", seed=1)
        assert write_repository(other, tmp_path / "r").version == 2
        for name, stage in ((EXTRACTOR, "extractor"), (CLASSIFIER, "classifier")):
            old, new = (sha256_of(tmp_path / "r" / name / number / "model.onnx") for number in "12")
            assert old == bundle.artifact(stage, "onnx-fp32").sha256
            assert new == other.artifact(stage, "onnx-fp32").sha256

    def test_another_threshold_alone_is_no_new_version(self, tmp_path: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle")
        write_repository(bundle, tmp_path / "r")
        assert write_repository(rewritten(bundle, threshold=0.75), tmp_path / "r").version == 1
        config = parsed((tmp_path / "r" / ENSEMBLE / "config.pbtxt").read_text())
        assert parameters(config)["threshold"] == "0.75"

    def test_what_a_killed_writer_left_out_is_filled_in(self, bundle: Bundle, tmp_path: Path) -> None:
        repository = write_repository(bundle, tmp_path)
        for file in (tmp_path / CLASSIFIER / "1").iterdir():
            file.unlink()
        (tmp_path / CLASSIFIER / "1").rmdir()
        assert write_repository(bundle, tmp_path).version == 1
        repository.check()

    def test_a_damaged_version_is_not_used_again(self, bundle: Bundle, tmp_path: Path) -> None:
        write_repository(bundle, tmp_path)
        damaged = tmp_path / EXTRACTOR / "1" / "model.py"
        damaged.write_text("")
        assert write_repository(bundle, tmp_path).version == 2

    def test_other_models_are_left_alone(self, bundle: Bundle, tmp_path: Path) -> None:
        other = tmp_path / "resnet" / "1" / "model.onnx"
        other.parent.mkdir(parents=True)
        other.write_text("theirs")
        write_repository(bundle, tmp_path)
        assert other.read_text() == "theirs"

    def test_another_file_system_gets_copies(self, bundle: Bundle) -> None:
        shared = Path("/dev/shm")
        if not shared.is_dir() or shared.stat().st_dev == bundle.root.stat().st_dev:
            pytest.skip("there is only one file system")
        root = shared / f"repository-of-{bundle.root.parent.name}-{bundle.root.stat().st_ino}"
        try:
            write_repository(bundle, root).check()
            copy = root / EXTRACTOR / "1" / "model.onnx"
            assert sha256_of(copy) == bundle.artifact("extractor", "onnx-fp32").sha256
            assert copy.stat().st_nlink == 1
        finally:
            subprocess.run(["rm", "-rf", root], check=True)


class TestRefusals:
    def test_a_format_that_the_bundle_lacks(self, bundle: Bundle, tmp_path: Path) -> None:
        with pytest.raises(BundleError, match="holds no extractor in onnx-int8"):
            write_repository(bundle, tmp_path, extractor="onnx-int8")
        assert not list(tmp_path.iterdir())

    def test_a_format_that_triton_cannot_run(self, tmp_path: Path) -> None:
        bundle = make_tiny_bundle(tmp_path / "bundle")
        values = bundle.manifest.model_dump(mode="json")
        (bundle.root / "classifier" / "onnx-fp32" / "model.onnx").rename(bundle.root / "classifier" / "model.tflite")
        values["artifacts"][1] |= {"format": "tflite-fp32", "path": "classifier/model.tflite"}
        bundle = rewritten(bundle, artifacts=values["artifacts"])
        with pytest.raises(RepositoryError, match="tflite-fp32 is not an ONNX format"):
            write_repository(bundle, tmp_path / "r", classifier="tflite-fp32")
        assert not (tmp_path / "r").exists()

    @pytest.mark.parametrize("in_the_way", ["r", f"r/{EXTRACTOR}", f"r/{CLASSIFIER}"])
    def test_a_file_in_the_way(self, bundle: Bundle, tmp_path: Path, in_the_way: str) -> None:
        file = tmp_path / in_the_way
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("precious")
        with pytest.raises(RepositoryError, match=r"cannot be written.*move the file in its way"):
            write_repository(bundle, tmp_path / "r")
        assert file.read_text() == "precious"
        assert not list(tmp_path.rglob("*.tmp"))

    def test_a_folder_that_cannot_be_written(self, bundle: Bundle) -> None:
        with pytest.raises(RepositoryError, match="the model repository /sys/vdeploy cannot be written") as caught:
            write_repository(bundle, Path("/sys/vdeploy"))
        assert "\n" not in str(caught.value)

    def test_a_full_disk_leaves_nothing_half_written(self, bundle: Bundle, tmp_path: Path) -> None:
        script = (
            "import resource, sys; from pathlib import Path\n"
            "from vdeploy.bundle import Bundle; from vdeploy.errors import RepositoryError\n"
            "from vdeploy.triton.repository import write_repository\n"
            "bundle = Bundle(Path(sys.argv[1]))\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
            "try: write_repository(bundle, Path(sys.argv[2]))\n"
            "except RepositoryError as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, bundle.root, tmp_path / "r"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "cannot be written" in done.stdout
        assert "File too large" in done.stdout
        assert not list((tmp_path / "r").rglob("*.tmp"))
        assert not list((tmp_path / "r").rglob("model.*"))

    @pytest.mark.parametrize(
        "missing",
        [
            f"{EXTRACTOR}/config.pbtxt",
            f"{EXTRACTOR}/1/model.py",
            f"{CLASSIFIER}/1/model.onnx",
            f"{CLASSIFIER}/labels.txt",
            f"{ENSEMBLE}/labels.txt",
        ],
    )
    def test_check_names_a_missing_file(self, repository: Repository, missing: str) -> None:
        (repository.root / missing).unlink()
        with pytest.raises(RepositoryError, match=f"{missing} is missing from the model repository"):
            repository.check()

    def test_check_names_a_missing_version(self, repository: Repository) -> None:
        (repository.root / ENSEMBLE / "1").rmdir()
        with pytest.raises(RepositoryError, match=f"{ENSEMBLE} has no version 1"):
            repository.check()

    @pytest.mark.parametrize("text", ["max_batch_size: many", 'name: "violence_detector"'])
    def test_check_refuses_a_broken_configuration(self, repository: Repository, text: str) -> None:
        (repository.root / ENSEMBLE / "config.pbtxt").write_text(text)
        with pytest.raises(RepositoryError, match="cannot be read as a Triton configuration"):
            repository.check()


def test_input_shape_is_the_smallest_batch(repository: Repository) -> None:
    assert [repository.input_shape(name) for name in MODELS] == [(1, 1, 32, 32, 3), (1, 4, 8), (1, 4, 32, 32, 3)]
