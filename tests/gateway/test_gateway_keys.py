from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from testing.running_gateway import ROOT
from testing.tiny_bundle import make_tiny_bundle
from vdeploy.core.errors import GatewayError
from vdeploy.gateway.keys import KeyFile


def vdeploy(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vdeploy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)


def test_a_key_is_found_until_it_is_revoked(tmp_path: Path):
    keys = KeyFile(tmp_path / "deep" / "keys.json")
    assert keys.read() == ()
    secret, admin = keys.add("door"), keys.add("boss", "admin")
    assert len(secret) > 40
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    found = KeyFile(keys.path).find(secret)
    assert found is not None
    assert (found.name, found.role) == ("door", "client")
    assert keys.find(admin).role == "admin"
    assert keys.find("vdk_other") is None
    assert secret not in keys.path.read_text()
    keys.revoke("door")
    assert keys.find(secret) is None
    assert [key.name for key in keys.read()] == ["boss"]


def test_what_cannot_be_done_with_keys_is_told(tmp_path: Path):
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("door")
    with pytest.raises(GatewayError, match="has a key named door already"):
        keys.add("door")
    with pytest.raises(GatewayError, match="no key named window"):
        keys.revoke("window")
    keys.path.write_text('{"keys": [{"name": "a", "sha256": "", "role": "client", "created": ""}]}')
    with pytest.raises(GatewayError, match="is not a file of keys"):
        KeyFile(keys.path).read()
    with pytest.raises(GatewayError, match="cannot be written"):
        KeyFile(keys.path / "below").add("door")
    with pytest.raises(GatewayError, match="cannot be read"):
        KeyFile(tmp_path).read()


@pytest.mark.slow
def test_keys_on_the_command_line(tmp_path: Path):
    file = tmp_path / "keys.json"
    made = vdeploy("gateway", "keys", "add", "door", "--file", file)
    assert KeyFile(file).find(made.stdout.strip()) is not None
    assert "door" in vdeploy("gateway", "keys", "list", "--file", file).stdout
    assert vdeploy("gateway", "keys", "revoke", "door", "--file", file).returncode == 0
    assert "no key named door" in vdeploy("gateway", "keys", "revoke", "door", "--file", file).stderr


@pytest.mark.slow
def test_a_gateway_that_cannot_start_says_why(tmp_path: Path):
    bundle = make_tiny_bundle(tmp_path / "bundle").root
    (tmp_path / "no.pem").write_text("no certificate")
    pem = tmp_path / "no.pem"
    cases = {
        "give either a bundle or a server": (),
        "needs a certificate and its key": ("--bundle", bundle, "--tls-cert", pem),
        "cannot be used": ("--bundle", bundle, "--tls-cert", pem, "--tls-key", pem),
        "there is no file": ("--bundle", bundle, "--api-keys", tmp_path / "none.json"),
        "there are no API keys": ("--bundle", bundle, "--host", "192.0.2.1"),
        "cannot be taken": ("--bundle", bundle, "--host", "192.0.2.1", "--insecure"),
        "127.0.0.1:9": ("--url", "127.0.0.1:9"),
    }
    for reason, options in cases.items():
        done = vdeploy("gateway", "--port", 0, "--spool", tmp_path / "spool", *options)
        assert done.returncode == 1, done.stderr
        line = done.stderr.splitlines()[-1]
        assert line.startswith("error: ")
        assert reason in line
    assert not [path for path in tmp_path.glob("spool/*") if path.is_dir()]
