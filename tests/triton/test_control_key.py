"""Nobody controls the models of a launched server without the secret of its repository."""

from __future__ import annotations

import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from vdeploy.core.errors import AccessError
from vdeploy.triton.client.control_key import VARIABLE, control_key, ensure_control_key, server_options
from vdeploy.triton.client.model_control import Control
from vdeploy.triton.deployment.status import read_status
from vdeploy.triton.names import ENSEMBLE_MODEL
from vdeploy.triton.server.server import TritonServer


@pytest.mark.triton
class TestServer:
    def test_a_stranger_is_refused(self, server: TritonServer) -> None:
        with triton.InferenceServerClient(server.url) as stranger:
            with pytest.raises(triton.InferenceServerException, match="restricted"):
                stranger.unload_model(ENSEMBLE_MODEL)
            with pytest.raises(triton.InferenceServerException, match="restricted"):
                stranger.load_model(ENSEMBLE_MODEL, headers={"triton-grpc-protocol-vdeploy-key": "guess"})
            assert stranger.is_model_ready(ENSEMBLE_MODEL)

    def test_over_http_too(self, server: TritonServer) -> None:
        host = server.url.rsplit(":", 1)[0]
        address = f"http://{host}:{server.http_port}/v2/repository/models/{ENSEMBLE_MODEL}/unload"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(address, b"{}"), timeout=10)

    def test_the_refusal_is_one_line_that_helps(self, server: TritonServer) -> None:
        with (
            Control(server.url) as control,
            pytest.raises(AccessError, match=rf"who know its key; give the repository .*--repo, or set {VARIABLE}"),
        ):
            control.check_access()

    def test_a_stranger_sees_what_answers_and_no_more(self, server: TritonServer) -> None:
        with Control(server.url) as control:
            found = read_status(control)
        assert found.healthy
        assert [(entry.version, entry.answers, entry.loaded) for entry in found.versions] == [(1, True, {})]


class TestKey:
    def test_it_is_made_once_and_read_by_its_owner_alone(self, tmp_path: Path) -> None:
        key = ensure_control_key(tmp_path)
        assert len(key) >= 32
        assert ensure_control_key(tmp_path) == key == control_key(tmp_path)
        (file,) = [entry for entry in tmp_path.rglob("*") if entry.is_file()]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_the_environment_goes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ensure_control_key(tmp_path)
        monkeypatch.setenv(VARIABLE, "from outside")
        assert control_key(tmp_path) == "from outside" == control_key(None)

    def test_without_a_repository_there_is_none(self, tmp_path: Path) -> None:
        assert control_key(None) is None
        assert control_key(tmp_path / "nowhere") is None

    def test_a_repository_that_cannot_be_written_has_one_that_nobody_learns(self) -> None:
        assert ensure_control_key(Path("/sys/vdeploy")) != ensure_control_key(Path("/sys/vdeploy"))

    def test_shared_memory_is_guarded_beyond_this_machine(self) -> None:
        assert not any("shared-memory" in option for option in server_options("secret", "127.0.0.1"))
        assert all("shared-memory" in option for option in server_options("secret", "192.0.2.7"))
