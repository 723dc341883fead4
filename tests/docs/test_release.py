"""What a release consists of: one version, metadata that a package index accepts, and complete distributions."""

from __future__ import annotations

import contextlib
import email
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import yaml

from testing.tiny_bundle import make_tiny_bundle, tiny_probabilities
from testing.videos import write_numbered
from vdeploy import __version__
from vdeploy.triton.server.ports import free_ports
from vdeploy.video.clips import ClipSpec, read_clip

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://git.example.org/team/vdeploy"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def setup_py() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_py", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_stands_in_one_place():
    assert not re.search(r"^version = \"", read("pyproject.toml"), re.MULTILINE)
    assert yaml.safe_load(read("CITATION.cff"))["version"] == __version__
    for file in (*(ROOT / "docker").rglob("*.yaml"), *(ROOT / "docker").rglob("*.yml")):
        for tag in re.findall(r"vdeploy-\w+:(?:\$\{\w+:-)?(\d+\.\d+\.\d+)|newTag: (\d\S*)", file.read_text("utf-8")):
            assert "".join(tag) == __version__, file


def test_the_changelog_has_the_version():
    assert re.search(
        rf"^## (?:{re.escape(__version__)} - \d{{4}}-\d\d-\d\d|Unreleased)$", read("CHANGELOG.md"), re.MULTILINE
    )


def test_links_of_the_readme_are_absolute_on_a_package_index(setup_py):
    text = setup_py.description(read("README.md"), REPOSITORY)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    assert "![Clips" in text
    assert f"]({REPOSITORY}/raw/HEAD/docs/assets/architecture.svg)" in text
    assert f"[LICENSE]({REPOSITORY}/blob/HEAD/LICENSE)" in text


def test_a_readme_without_a_repository_has_no_broken_link(setup_py):
    text = setup_py.description(read("README.md"), None)
    assert "see LICENSE." in text
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]+)\)", text))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b"}, "https://github.com/a/b"),
        ({"CI_PROJECT_URL": REPOSITORY}, REPOSITORY),
        ({"VDEPLOY_REPOSITORY_URL": REPOSITORY + "/", "GITHUB_REPOSITORY": "a/b"}, REPOSITORY),
    ],
)
def test_the_repository_is_the_one_that_builds(setup_py, monkeypatch, variables, expected):
    for name in ("VDEPLOY_REPOSITORY_URL", "CI_PROJECT_URL", "GITHUB_REPOSITORY", "GITHUB_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert setup_py.repository_url() == expected
    assert setup_py.project_urls(expected)["Source"] == expected


@pytest.mark.parametrize(
    "remote", ["git@git.example.org:team/vdeploy.git", "https://me:token@git.example.org/team/vdeploy"]
)
def test_the_repository_of_a_checkout_is_its_origin_without_credentials(setup_py, monkeypatch, tmp_path, remote):
    for name in ("VDEPLOY_REPOSITORY_URL", "CI_PROJECT_URL", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "remote", "add", "origin", remote], check=True)
    monkeypatch.setattr(setup_py, "ROOT", tmp_path)
    assert setup_py.repository_url() == REPOSITORY


def test_ci_files_are_valid_yaml_and_name_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    files = [".gitlab-ci.yml", *(str(path.relative_to(ROOT)) for path in (ROOT / ".github").rglob("*.yml"))]
    assert len(files) >= 5
    for name in files:
        text = read(name)
        assert yaml.safe_load(text)
        assert set(re.findall(r"\bmake ([a-z-]+)$", text, re.MULTILINE)) <= targets, name
    called = " ".join(re.findall(r"^make (.+)$", read(".ci/run"), re.MULTILINE)).split()
    assert {word for word in called if not word.startswith("-")} <= targets


def test_a_release_publishes_without_a_stored_token():
    jobs = yaml.safe_load(read(".github/workflows/release.yml"))["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in read(".github/workflows/release.yml")
    assert yaml.safe_load(read(".gitlab-ci.yml"))["publish"]["id_tokens"]["PYPI_ID_TOKEN"] == {"aud": "pypi"}


def test_pre_commit_runs_the_pinned_ruff():
    pinned = re.search(r"^ruff==(\S+)", read("constraints.txt"), re.MULTILINE)
    repos = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert pinned
    assert [repo["rev"] for repo in repos if repo["repo"].endswith("/ruff-pre-commit")] == [f"v{pinned[1]}"]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A wheel and a source distribution, built from a copy of the tracked files."""
    pytest.importorskip("build", reason="needs the package build")
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,), (sdist,) = (list((folder / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    return wheel, sdist


@pytest.mark.slow
def test_an_index_accepts_both(distributions):
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_has_every_module_and_data_file(distributions):
    wheel, _ = distributions
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = email.message_from_bytes(archive.read(f"vdeploy-{__version__}.dist-info/METADATA"))
    tracked = subprocess.run(
        ["git", "ls-files", "vdeploy", "training"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {name for name in tracked if (ROOT / name).is_file()} <= names
    packages = {name.split("/")[0] for name in names}
    assert packages == {"training", "vdeploy", f"vdeploy-{__version__}.dist-info"}
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert f"vdeploy-{__version__}.dist-info/licenses/LICENSE" in names


@pytest.mark.slow
def test_the_source_distribution_has_what_a_build_needs_and_no_more(distributions):
    _, sdist = distributions
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "README.md",
        "constraints.txt",
        "pyproject.toml",
        "requirements.txt",
        "setup.py",
    } <= names
    assert {name.split("/")[0] for name in names if "/" in name} == {"training", "vdeploy", "vdeploy.egg-info"}
    assert not [name for name in names if name.endswith((".pyc", ".npz", ".h5"))]


def pythons() -> dict[str, str]:
    """By version: the oldest and the newest Python that can be had, from PATH or beside this one, or else this one."""
    found: dict[str, str] = {}
    for version in ("3.10", "3.13"):
        beside = sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python{version}"))
        candidates = [*map(str, beside), shutil.which(f"python{version}")]
        works = (
            one for one in candidates if one and not subprocess.run([one, "-c", "import venv"], check=False).returncode
        )
        found.setdefault(version, next(works, ""))
    here = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    return {version: python for version, python in found.items() if python} or here


@pytest.fixture(scope="module")
def installed(
    request: pytest.FixtureRequest, distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The programs of a fresh environment into which the wheel was installed."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([pythons()[request.param], "-m", "venv", str(environment)], check=True, timeout=120)
    wheel = f"{distributions[0]}[gateway,onnx]"
    command = [environment / "bin" / "python", "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), wheel]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return environment / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's folder with a package of theirs that is called like one of ours, a bundle and a clip."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("raise RuntimeError('this is another training')\n")
    make_tiny_bundle(tmp_path / "bundle")
    write_numbered(tmp_path / "clip.mp4", 24)
    return tmp_path


def run_in(folder: Path, *command: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("installed", pythons(), indirect=True)
def test_an_installed_wheel_works_in_a_folder_with_another_training(installed, elsewhere):
    assert run_in(elsewhere, installed / "vdeploy", "--version").strip() == f"vdeploy {__version__}"
    assert "Usage: vdeploy" in run_in(elsewhere, installed / "vdeploy", "--help")
    assert "onnxruntime" in run_in(elsewhere, installed / "vdeploy", "doctor")
    run_in(elsewhere, installed / "vdeploy", "serve", "bundle", "--repo", "repository")
    assert list(elsewhere.glob("repository/*/config.pbtxt"))
    predict = ("predict", "clip.mp4", "--bundle", "bundle", "--json")
    for command in ([installed / "vdeploy"], [installed / "python", "-m", "vdeploy"]):
        (answer,) = json.loads(run_in(elsewhere, *command, *predict))["predictions"]
        clip = read_clip(elsewhere / "clip.mp4", ClipSpec(frames=4, size=32))
        assert answer["probability"] == pytest.approx(float(tiny_probabilities(clip.frames[None])[0, 1]), abs=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("installed", [*pythons()][:1], indirect=True)
def test_an_installed_gateway_scores_in_a_folder_with_another_training(installed, elsewhere):
    (port,) = free_ports(1)
    command = [installed / "vdeploy", "gateway", "--bundle", "bundle", "--port", str(port)]
    with (elsewhere / "log").open("wb") as log:
        gateway = subprocess.Popen(command, cwd=elsewhere, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30, trust_env=False).is_success:
                    break
            assert time.monotonic() < deadline, (elsewhere / "log").read_text()
            time.sleep(0.2)
        with (elsewhere / "clip.mp4").open("rb") as video:
            files = {"video": ("clip.mp4", video)}
            answer = httpx.post(f"http://127.0.0.1:{port}/predict", files=files, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
    finally:
        gateway.terminate()
        gateway.wait(30)
