"""Folders that would make a load by the Python backend hang are refused; the others are served from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.triton.conftest import Ports
from vdeploy.artifacts.bundle import Bundle
from vdeploy.core.errors import RepositoryError
from vdeploy.triton.repository.path_rules import OTHER_FOLDER, refuse_unusable_path
from vdeploy.triton.repository.writer import write_repository
from vdeploy.triton.server.install import TritonInstall
from vdeploy.triton.server.server import TritonServer

UNUSABLE = ["my models", "it's", 'a"b', "a$b", "a&b", "a(b)", "a;b", "a|b", "a<b", "a`b", "a\\b", "a*b", "[a]", "{a,b}"]
USABLE = "#~!a%=:,@+b^-_.~"


@pytest.mark.parametrize("name", [*UNUSABLE, "tab\there", "two\nlines", "ünlü", "wide\u3000space"])
def test_a_name_that_a_shell_takes_apart(tmp_path: Path, name: str) -> None:
    with pytest.raises(RepositoryError, match=r"Python backend cannot work in .*: there is .* in it") as caught:
        refuse_unusable_path(tmp_path / name / "repository", OTHER_FOLDER)
    assert "\n" not in str(caught.value)
    assert caught.value.hint == "choose another folder with --repo"


def test_a_space_is_called_by_its_name_even_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "my models").mkdir()
    (tmp_path / "link").symlink_to("my models")
    with pytest.raises(RepositoryError, match=r"/my models/r': there is a space in it"):
        refuse_unusable_path(tmp_path / "link" / "r", OTHER_FOLDER)


def test_only_the_python_backend_minds(bundle: Bundle, tmp_path: Path) -> None:
    write_repository(bundle, tmp_path / "my own", backend="onnxruntime").check()
    with pytest.raises(RepositoryError, match="there is a space in it"):
        write_repository(bundle, tmp_path / "my models").check()


@pytest.mark.triton
def test_other_characters_are_served_from(bundle: Bundle, install: TritonInstall, tmp_path: Path, ports: Ports) -> None:
    repository = write_repository(bundle, tmp_path / USABLE / "r")
    with TritonServer(repository, install=install, log_file=tmp_path / "log", **ports.as_arguments()) as server:
        assert server.heal() == ()


@pytest.mark.triton
def test_a_temporary_folder_that_would_hang_it(
    bundle: Bundle, install: TritonInstall, tmp_path: Path, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not install.stubs:
        pytest.skip("a complete install needs no temporary folder")
    (tmp_path / "t t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t t"))
    server = TritonServer(
        write_repository(bundle, tmp_path / "r"), install=install, log_file=tmp_path / "log", **ports.as_arguments()
    )
    with pytest.raises(RepositoryError, match="there is a space in it; set TMPDIR to another folder"):
        server.start()
    assert not list((tmp_path / "t t").iterdir())
