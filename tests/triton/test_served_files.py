"""A server starts only on the files that were written, and only where they answer as they should."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from testing.tiny_bundle import make_tiny_bundle
from tests.triton.conftest import Ports, forget_hashes, processes_with
from vdeploy.artifacts.bundle import MANIFEST, Bundle
from vdeploy.artifacts.bundle.golden import GOLDEN, GoldenClips
from vdeploy.core.errors import RepositoryError, ServerError
from vdeploy.core.files import sha256_of, write_json
from vdeploy.inference.golden_clips import golden_clips_of
from vdeploy.triton.deployment.journal import Journal
from vdeploy.triton.names import CLASSIFIER_MODEL, DEPLOYMENTS, EXTRACTOR_MODEL
from vdeploy.triton.repository.file_hashes import HASHES, check_hashes
from vdeploy.triton.repository.repository import Repository
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer


def change_in_place(version: Path) -> None:
    with (version / "model.onnx").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")


def exchange(version: Path) -> None:
    (version / "model.py").write_text("print('mine')\n")


def add(version: Path) -> None:
    (version / "weights.bin").write_bytes(b"external data")


def add_a_folder(version: Path) -> None:
    (version / "more").mkdir()
    (version / "more" / "code.py").write_text("")


def remove(version: Path) -> None:
    (version / "model.onnx").unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (change_in_place, r"1/model.onnx is not the file that was written: its SHA-256 differs"),
        (exchange, r"1/model.py is not the file that was written: its SHA-256 differs"),
        (add, r"1/weights.bin does not belong to version 1: no hash of it is recorded"),
        (add_a_folder, r"1/more/code.py does not belong to version 1: no hash of it is recorded"),
        (remove, r"1/model.onnx is missing from the model repository"),
    ],
)
def test_a_tampered_version_is_found(repository: Repository, damage: Callable[[Path], None], told: str) -> None:
    assert check_hashes(repository.root, 1, repository.models)
    damage(repository.root / EXTRACTOR_MODEL / "1")
    with pytest.raises(RepositoryError, match=rf"{told}; put its bundle into service again") as caught:
        check_hashes(repository.root, 1, repository.models)
    assert "\n" not in str(caught.value)


def test_the_bundle_is_not_reached_by_a_change(bundle: Bundle, repository: Repository) -> None:
    for model in (EXTRACTOR_MODEL, CLASSIFIER_MODEL):
        change_in_place(repository.root / model / "1")
    assert Bundle(bundle.root).manifest == bundle.manifest


def test_serving_the_bundle_again_makes_a_new_version(bundle: Bundle, repository: Repository) -> None:
    change_in_place(repository.root / EXTRACTOR_MODEL / "1")
    again = write_repository(bundle, repository.root)
    assert again.version == 2
    assert check_hashes(again.root, 2, again.models)


def test_sha256sum_reads_the_note(repository: Repository) -> None:
    note = Path(DEPLOYMENTS) / "1" / HASHES
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum")
    subprocess.run(["sha256sum", "--check", "--quiet", note], cwd=repository.root, check=True)


def test_bytecode_that_another_server_left_is_removed(repository: Repository) -> None:
    folder = repository.root / EXTRACTOR_MODEL / "1" / "__pycache__"
    folder.mkdir()
    (folder / "model.cpython-311.pyc").write_bytes(b"old")
    assert check_hashes(repository.root, 1, repository.models)
    assert not folder.exists()


def test_a_version_of_0_1_has_no_note(repository: Repository) -> None:
    forget_hashes(repository)
    change_in_place(repository.root / EXTRACTOR_MODEL / "1")
    assert not check_hashes(repository.root, 1, repository.models)


def test_a_note_that_cannot_be_read(repository: Repository) -> None:
    (repository.root / DEPLOYMENTS / "1" / HASHES).write_text("hello\n")
    with pytest.raises(RepositoryError, match=r"files.sha256 cannot be read"):
        check_hashes(repository.root, 1, repository.models)


@pytest.mark.triton
def test_no_server_starts_on_it(repository: Repository, install: TritonInstall, ports: Ports) -> None:
    change_in_place(repository.root / EXTRACTOR_MODEL / "1")
    server = TritonServer(repository, install=install, log_file=repository.root / "log", **ports.as_arguments())
    with pytest.raises(RepositoryError, match="is not the file that was written"):
        server.start()
    assert not (repository.root / "log").exists()


@pytest.mark.slow
@pytest.mark.triton
def test_no_server_is_ready_that_answers_a_golden_clip_wrongly(
    bundle: Bundle, repository: Repository, install: TritonInstall, ports: Ports
) -> None:
    """As one whose files are what was written, and whose runtime or processor computes something else."""
    golden = golden_clips_of(bundle, "onnx-fp32", "onnx-fp32")
    deployments = Journal(repository.root)
    deployments.note_golden(1, golden)
    server = TritonServer(repository, install=install, log_file=repository.root / "log", **ports.as_arguments())
    server.start()
    server.stop()
    wrong = dataclasses.replace(golden, probabilities=np.float32(1.0) - golden.probabilities)
    deployments.note_golden(1, wrong)
    with pytest.raises(ServerError, match=r"version 1 answers a golden clip wrongly: a probability is off by"):
        server.start()
    assert not processes_with(str(repository.root))


def test_serve_keeps_the_bundles_golden_clips(tmp_path: Path) -> None:
    from vdeploy.triton.commands.serve import ServeRequest, prepare_serving
    from vdeploy.triton.planning.plans import StageRequest

    made = make_tiny_bundle(tmp_path / "bundle")
    golden = golden_clips_of(made, "onnx-fp32", "onnx-fp32")
    golden.save(made.root / GOLDEN)
    values = made.manifest.model_dump(mode="json")
    values["documents"][GOLDEN] = sha256_of(made.root / GOLDEN)
    write_json(made.root / MANIFEST, values)
    prepare_serving(ServeRequest(made.root, str(tmp_path / "r"), StageRequest("python")))
    held = Journal(tmp_path / "r").served_golden(1)
    assert isinstance(held, GoldenClips)
    np.testing.assert_array_equal(held.probabilities, golden.probabilities)
