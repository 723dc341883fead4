from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from testing.openvino_bundle import with_openvino
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import BundleError, RepositoryError
from vdeploy.core.files import sha256_of, write_json
from vdeploy.triton.names import WINDOW_MODEL
from vdeploy.triton.repository.backends import Backend, BackendChoice, missing_file
from vdeploy.triton.repository.model_set import PLAIN, model_set_of
from vdeploy.triton.repository.repository import Repository, read_config
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall

EXTRACTOR, CLASSIFIER, ENSEMBLE = PLAIN.models


def files_of(root: Path) -> dict[str, tuple[int, int]]:
    return {
        file.relative_to(root).as_posix(): (file.stat().st_ino, file.stat().st_mtime_ns) for file in root.rglob("*")
    }


def rewritten(bundle: Bundle, **changes: object) -> Bundle:
    values = bundle.manifest.model_dump(mode="json") | changes
    write_json(bundle.root / "bundle.json", values)
    return Bundle(bundle.root)


def with_format(bundle: Bundle, stage: str, name: str) -> Bundle:
    """The bundle with the ONNX file of a stage once more, under the name of another format."""
    artifacts = bundle.manifest.model_dump(mode="json")["artifacts"]
    (again,) = (dict(artifact) for artifact in artifacts if artifact["stage"] == stage)
    return rewritten(bundle, artifacts=[*artifacts, again | {"format": name}])


def fake_install(folder: Path, *backends: str) -> TritonInstall:
    for name in backends:
        (folder / name).mkdir(parents=True)
        (folder / name / f"libtriton_{name}.so").touch()
    return TritonInstall(folder / "tritonserver", folder, {}, folder / "lib", "2.51.0", "a test")


class TestWriting:
    def test_a_new_repository(self, bundle: Bundle, tmp_path: Path) -> None:
        root = tmp_path / "deep" / "triton_repo"
        repository = write_repository(bundle, root)
        assert repository == Repository(root, 1, PLAIN.models, "python", "python")
        assert {name for name in files_of(root) if (root / name).is_file()} == {
            *(f"{name}/config.pbtxt" for name in PLAIN.models),
            f"{CLASSIFIER}/labels.txt",
            f"{ENSEMBLE}/labels.txt",
            f"{ENSEMBLE}/deployments/1/files.sha256",
            *(f"{name}/1/{file}" for name in (EXTRACTOR, CLASSIFIER) for file in ("model.onnx", "model.py")),
        }
        for stage, name in (("extractor", EXTRACTOR), ("classifier", CLASSIFIER)):
            source = bundle.root / stage / "onnx-fp32" / "model.onnx"
            assert (root / name / "1" / "model.onnx").read_bytes() == source.read_bytes()
            assert not (root / name / "1" / "model.onnx").samefile(source)
        assert (root / ENSEMBLE / "1").is_dir()
        assert (root / CLASSIFIER / "labels.txt").read_text() == "non-violent\nviolent\n"
        repository.check()

    def test_onnxruntime_backend_needs_no_code(self, bundle: Bundle, tmp_path: Path) -> None:
        repository = write_repository(bundle, tmp_path, backend="onnxruntime")
        assert [file.name for file in (tmp_path / EXTRACTOR / "1").iterdir()] == ["model.onnx"]
        assert read_config(tmp_path / EXTRACTOR / "config.pbtxt").backend == "onnxruntime"
        repository.check()

    @pytest.mark.parametrize(
        ("backends", "chosen"), [(("python",), "python"), (("python", "onnxruntime"), "onnxruntime")]
    )
    def test_auto_takes_what_the_server_has(
        self, bundle: Bundle, tmp_path: Path, backends: tuple[str, ...], chosen: str
    ) -> None:
        install = fake_install(tmp_path / "backends", *backends)
        assert write_repository(bundle, tmp_path / "r", backend="auto", install=install).backend == chosen

    def test_each_stage_may_have_its_own_backend(self, tmp_path: Path) -> None:
        bundle = with_format(make_tiny_bundle(tmp_path / "bundle"), "extractor", "tensorrt-fp16")
        repository = write_repository(bundle, tmp_path / "r", backend="auto", extractor="tensorrt-fp16")
        assert repository.backends == ("tensorrt", "python")
        assert repository.takes_turns
        assert [file.name for file in (tmp_path / "r" / EXTRACTOR / "1").iterdir()] == ["model.plan"]
        repository.check()
        (tmp_path / "r" / EXTRACTOR / "1" / "model.plan").unlink()
        with pytest.raises(RepositoryError, match=r"model.plan is missing"):
            repository.check()

    def test_openvino_is_two_files_and_the_code(self, tmp_path: Path) -> None:
        pytest.importorskip("openvino")
        bundle, root = with_openvino(make_tiny_bundle(tmp_path / "bundle")), tmp_path / "r"
        repository = write_repository(bundle, root, backend="auto", extractor="openvino-fp32")
        assert repository.backends == ("python",)
        assert repository.python_runtimes == ("onnxruntime", "openvino")
        assert {file.name for file in (root / EXTRACTOR / "1").iterdir()} == {"model.py", "model.xml", "model.bin"}
        source = bundle.path(bundle.artifact("extractor", "openvino-fp32"))
        assert all((root / EXTRACTOR / "1" / file.name).read_bytes() == file.read_bytes() for file in source.iterdir())
        assert not any((root / EXTRACTOR / "1" / file.name).samefile(file) for file in source.iterdir())
        assert write_repository(bundle, root, extractor="openvino-fp32").version == 1
        repository.check()
        (root / EXTRACTOR / "1" / "model.bin").unlink()
        with pytest.raises(RepositoryError, match=f"{EXTRACTOR}/1/model.bin is missing"):
            repository.check()

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
        config = read_config(tmp_path / "r" / ENSEMBLE / "config.pbtxt")
        assert config.parameters["threshold"].string_value == "0.75"

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

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("tflite-fp32", "Triton never had a TFLite backend; export to an onnx"),
            ("savedmodel", "Triton has dropped its TensorFlow backend .*; export to an onnx"),
            ("tensorrt-rtx-fp16", "runs engines of the library tensorrt, not of tensorrt_rtx; export to tensorrt-fp16"),
        ],
    )
    def test_a_format_that_triton_cannot_run(self, tmp_path: Path, name: str, reason: str) -> None:
        bundle = with_format(make_tiny_bundle(tmp_path / "bundle"), "classifier", name)
        with pytest.raises(RepositoryError, match=f"cannot serve the classifier in {name}: .*{reason}"):
            write_repository(bundle, tmp_path / "r", classifier=name)
        assert not (tmp_path / "r").exists()

    @pytest.mark.parametrize(
        ("backend", "extractor", "message"),
        [
            ("tensorrt", "onnx-fp32", "the tensorrt backend cannot run the extractor in onnx-fp32"),
            ("python", "tensorrt-fp16", "the python backend cannot run the extractor in tensorrt-fp16"),
            ("tensorrt", "openvino-int8", "the tensorrt backend cannot run the extractor in openvino-int8"),
            ("onnxruntime", "openvino-int8", "the onnxruntime backend .* in openvino-int8; choose --backend python"),
        ],
    )
    def test_a_backend_that_cannot_run_a_format(
        self, tmp_path: Path, backend: BackendChoice, extractor: str, message: str
    ) -> None:
        bundle = with_format(make_tiny_bundle(tmp_path / "bundle"), "extractor", extractor)
        with pytest.raises(RepositoryError, match=message):
            write_repository(bundle, tmp_path / "r", backend=backend, extractor=extractor)
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
            "from vdeploy.artifacts.bundle import Bundle; from vdeploy.core.errors import RepositoryError\n"
            "from vdeploy.triton.repository.writer import write_repository\n"
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


@pytest.mark.parametrize(
    ("backend", "held", "missing"),
    [
        ("python", ["model.py", "model.onnx"], ""),
        ("python", ["model.py", "model.xml", "model.bin"], ""),
        ("python", ["model.onnx"], "model.py"),
        ("python", ["model.py"], "model.onnx"),
        ("python", ["model.xml", "model.bin"], "model.py"),
        ("python", ["model.py", "model.bin"], "model.xml"),
        ("python", [], "model.py"),
        ("onnxruntime", ["model.onnx", "notes.txt"], ""),
        ("tensorrt", ["model.onnx"], "model.plan"),
    ],
)
def test_what_a_version_lacks(backend: Backend, held: list[str], missing: str) -> None:
    assert missing_file(EXTRACTOR, backend, held) == missing


def test_what_keeps_windows_is_code_alone() -> None:
    assert missing_file(WINDOW_MODEL, "python", ["model.py"]) == ""
    assert missing_file(WINDOW_MODEL, "python", []) == "model.py"


def test_a_sample_is_the_smallest_batch(repository: Repository) -> None:
    samples = [(name, array.shape) for model in PLAIN.models for name, array in repository.sample(model).items()]
    assert samples == [("frames", (1, 1, 32, 32, 3)), ("features", (1, 4, 8)), ("frames", (1, 4, 32, 32, 3))]


def with_transformer(folder: Path) -> Bundle:
    """A tiny bundle whose head calls itself a transformer."""
    bundle = make_tiny_bundle(folder)
    extractor, classifier = bundle.manifest.model_dump(mode="json")["stages"]
    return rewritten(bundle, stages=[extractor, classifier | {"architecture": "transformer"}])


def test_models_are_named_after_the_architectures(tmp_path):
    repository = write_repository(with_transformer(tmp_path / "bundle"), tmp_path / "repository")
    names = (EXTRACTOR, "transformer_classifier", ENSEMBLE)
    assert repository.models == model_set_of(repository.root).models == names
    text = (repository.root / ENSEMBLE / "config.pbtxt").read_text()
    assert tuple(re.findall(r'model_name: "([^"]+)"', text)) == names[:2]
    repository.check()


def test_a_repository_of_other_models_is_refused(bundle: Bundle, tmp_path):
    write_repository(bundle, tmp_path / "repository")
    with pytest.raises(RepositoryError, match=r"serves vgg19_features and lstm_classifier, .*transformer_classifier"):
        write_repository(with_transformer(tmp_path / "bundle"), tmp_path / "repository")
    assert not (tmp_path / "repository" / "transformer_classifier").exists()
