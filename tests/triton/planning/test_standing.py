"""What deployments have chosen is not replaced by `vdeploy serve`, and a server starts on it as it stands."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from testing.tiny_bundle import make_tiny_bundle
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.core.files import sha256_of
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.triton.commands.serve import ServeRequest, prepare_serving
from vdeploy.triton.deployment.journal import Journal, Record
from vdeploy.triton.deployment.pinning import pin_ensembles, pin_stage
from vdeploy.triton.names import ENSEMBLE_MODEL, EXTRACTOR_MODEL, STAGES
from vdeploy.triton.planning.existing_repository import keeps_deployed, refuse_threads, standing_repository
from vdeploy.triton.planning.plans import StageRequest
from vdeploy.triton.repository.backends import BackendChoice
from vdeploy.triton.repository.options import ServingOptions, StreamOptions
from vdeploy.triton.repository.writer import write_repository


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("bundles")
    first, second, third = (make_tiny_bundle(folder / str(seed), seed=seed) for seed in range(3))
    return first, second, third


@pytest.fixture
def deployed(bundles: tuple[Bundle, Bundle, Bundle], tmp_path: Path) -> Path:
    """A repository with bundles 0 and 1, the second rolled back to the first."""
    root = tmp_path / "r"
    deployments = Journal(root)
    for bundle in bundles[:2]:
        version = write_repository(bundle, root).version
        record = Record(version=version, run="tiny", bundle_sha256=bundle.manifest.digest, written="now")
        deployments.add(record, golden_clips_of(bundle, "onnx-fp32", "onnx-fp32"), deployments.current_configs())
    for stage in STAGES:
        pin_stage(deployments, stage, 1, {1})
    pin_ensembles(deployments, 1)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def vdeploy(*arguments: object, code: int = 0) -> tuple[str, str]:
    command = [sys.executable, "-m", "vdeploy", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_serve_does_not_replace_what_a_rollback_has_chosen(
    bundles: tuple[Bundle, Bundle, Bundle], deployed: Path, seed: int
) -> None:
    before = files(deployed)
    out, err = vdeploy("serve", bundles[seed].root, "--repo", deployed, "--backend", "python", code=1)
    assert out == ""
    assert err.splitlines()[-1] == (
        f"error: {deployed} serves version 1, which a deployment or rollback has chosen; what serve writes would take "
        f"over from it unproven; bring the bundle by vdeploy deploy, start a server as it stands by vdeploy serve "
        f"--repo {deployed} --launch, or choose another folder with --repo"
    )
    assert files(deployed) == before


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_container_that_starts_again_serves_what_was_deployed(
    bundles: tuple[Bundle, Bundle, Bundle], deployed: Path, seed: int
) -> None:
    before = files(deployed)
    arguments = ("--repo", deployed, "--backend", "python", "--keep-deployed", "--json")
    out, err = vdeploy("serve", bundles[seed].root, *arguments)
    told = json.loads(out)
    assert (told["version"], told["formats"]) == (1, {"extractor": "onnx-fp32", "classifier": "onnx-fp32"})
    assert f"repository: {deployed} is served as it stands" in err
    assert files(deployed) == before


def test_a_container_that_names_a_new_bundle_serves_it(bundles: tuple[Bundle, Bundle, Bundle], deployed: Path) -> None:
    arguments = ("--repo", deployed, "--backend", "python", "--keep-deployed", "--json")
    assert json.loads(vdeploy("serve", bundles[2].root, *arguments)[0])["version"] == 3
    assert Journal(deployed).active() == 3


def test_where_nothing_was_deployed_serve_writes_as_ever(
    bundles: tuple[Bundle, Bundle, Bundle], tmp_path: Path
) -> None:
    assert not keeps_deployed(tmp_path, "r", bundles[0], allowed=False)
    write_repository(bundles[0], tmp_path)
    assert not keeps_deployed(tmp_path, "r", bundles[1], allowed=False)


def test_it_stands_as_it_was_written(bundles: tuple[Bundle, Bundle, Bundle], tmp_path: Path) -> None:
    options = ServingOptions(streams=StreamOptions(3), gpus=(0,))
    written = write_repository(bundles[0], tmp_path, backend="onnxruntime", options=options)
    assert standing_repository(tmp_path, "r") == written
    assert written.takes_turns


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            (),
            "there is no BUNDLE to fill the repository with; name one, or start the repository as it stands: --launch",
        ),
        (("--launch", "--precision", "int8"), "--precision without a BUNDLE would change nothing; name a BUNDLE"),
        (("--launch", "--keep-deployed"), "--keep-deployed without a BUNDLE would change nothing; name a BUNDLE"),
    ],
)
def test_what_means_nothing_without_a_bundle(deployed: Path, arguments: tuple[str, ...], line: str) -> None:
    assert vdeploy("serve", "--repo", deployed, *arguments, code=1)[1].splitlines()[-1] == f"error: {line}"


@pytest.mark.parametrize(
    ("backend", "kept", "threads", "configured"),
    [
        ("onnxruntime", None, 2, "the number of threads that ONNX Runtime chooses, for the onnxruntime backend"),
        ("onnxruntime", 4, 2, "--threads 4, for the onnxruntime backend"),
        ("python", 4, 2, "--threads 4, for the python backend"),
        ("onnxruntime", 2, 2, ""),
        ("python", 2, 2, ""),
        ("python", None, 2, ""),
    ],
)
def test_threads_that_a_standing_repository_does_not_take(
    bundles: tuple[Bundle, Bundle, Bundle],
    tmp_path: Path,
    backend: BackendChoice,
    kept: int | None,
    threads: int,
    configured: str,
) -> None:
    write_repository(bundles[0], tmp_path, backend=backend, options=ServingOptions(threads=kept))
    told = f"--threads {threads} would have no effect: r is configured with {configured}; leave it out, or change it"
    with pytest.raises(RepositoryError, match=told) if configured else contextlib.nullcontext():
        refuse_threads(tmp_path, "r", threads)


def test_threads_are_refused_before_anything_starts(deployed: Path) -> None:
    for file in deployed.glob("*/config.pbtxt"):
        file.write_text(file.read_text().replace('backend: "python"', 'backend: "onnxruntime"'))
    err = vdeploy("serve", "--repo", deployed, "--launch", "--threads", 2, code=1)[1]
    assert "error: --threads 2 would have no effect" in err.splitlines()[-1]


def test_a_container_that_starts_again_comes_up_with_other_threads(
    bundles: tuple[Bundle, Bundle, Bundle], deployed: Path
) -> None:
    for file in deployed.glob("*/config.pbtxt"):
        file.write_text(file.read_text().replace('backend: "python"', 'backend: "onnxruntime"'))
    err = vdeploy("serve", bundles[0].root, "--repo", deployed, "--keep-deployed", "--threads", 2)[1]
    assert "repository: --threads 2 would have no effect" in err


def test_an_empty_place(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="r holds nothing to serve; name a BUNDLE to fill it with"):
        standing_repository(tmp_path, "r")


def test_a_backend_that_is_not_ours(deployed: Path) -> None:
    file = deployed / EXTRACTOR_MODEL / "config.pbtxt"
    file.write_text(file.read_text().replace('backend: "python"', 'backend: "pytorch"'))
    with pytest.raises(RepositoryError, match="vgg19_features runs in pytorch, which vdeploy does not know"):
        standing_repository(deployed, "r")


def test_a_damaged_configuration(deployed: Path) -> None:
    (deployed / ENSEMBLE_MODEL / "config.pbtxt").write_text("what {")
    with pytest.raises(RepositoryError, match="a configuration of the model repository cannot be read"):
        standing_repository(deployed, "r")


@pytest.mark.slow
def test_several_serve_at_once_and_the_stages_are_of_one_bundle(
    bundles: tuple[Bundle, Bundle, Bundle], tmp_path: Path
) -> None:
    root = tmp_path / "r"
    command = [sys.executable, "-m", "vdeploy", "serve"]
    arguments = ["--repo", root, "--backend", "python", "--json"]
    started = [
        subprocess.Popen([*command, bundle.root, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for bundle in bundles
    ]
    versions = set()
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        versions.add(json.loads(out)["version"])
    assert versions == {1, 2, 3}
    held = {tuple(sha256_of(root / stage / str(version) / "model.onnx") for stage in STAGES) for version in versions}
    assert held == {
        tuple(bundle.artifact(stage, "onnx-fp32").sha256 for stage in ("extractor", "classifier")) for bundle in bundles
    }


def test_serve_waits_for_a_deployment(
    bundles: tuple[Bundle, Bundle, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ServeRequest(bundles[0].root, str(tmp_path / "r"), StageRequest("python"))
    told = r"r is being deployed to; wait until that is done, then try again"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        with Journal(tmp_path / "r").exclusive():
            monkeypatch.setattr("vdeploy.triton.commands.serve.LOCK_SECONDS", 0.2)
            with pytest.raises(RepositoryError, match=told):
                prepare_serving(request)
            monkeypatch.undo()
            waiting = pool.submit(prepare_serving, request)
            assert not concurrent.futures.wait([waiting], 1.0).done
            assert not (tmp_path / "r" / EXTRACTOR_MODEL).exists()
        assert waiting.result(60).repository.version == 1
