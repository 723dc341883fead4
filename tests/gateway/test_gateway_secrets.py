"""Passwords of cameras and API keys: in no process's arguments or environment, log line or answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from testing.running_gateway import ROOT, Running, running_gateway
from testing.streams import mjpeg_server
from tests.gateway.test_gateway_keys import vdeploy
from vdeploy.core.errors import UserError
from vdeploy.core.process_arguments import secret_spans
from vdeploy.gateway.cameras import read_cameras

PASSWORD = "hunter2-s3cr3t"  # noqa: S105


def seen_by_others(gateway: Running) -> str:
    """Arguments and environments of the gateway and all processes below it."""
    text = ""
    for pid in (gateway.process.pid, *gateway.children()):
        for name in ("cmdline", "environ"):
            text += Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    return text


@pytest.mark.slow
@pytest.mark.parametrize("way", ["argument", "file"])
def test_a_camera_password_is_in_no_argument_environment_or_log(
    bundle_dir: Path, tmp_path: Path, video: Path, way: str
):
    with mjpeg_server(video, fps=25) as camera:
        pair = f"door=http://user:{PASSWORD}@127.0.0.1:{camera.port}/?token={PASSWORD}"
        file = tmp_path / "cameras.txt"
        file.write_text(f"# cameras\n\n{pair}\n")
        options = ("--camera", pair) if way == "argument" else ("--cameras", str(file))
        gateways = running_gateway(tmp_path / "spool", "--bundle", str(bundle_dir), *options)
        with gateways as gateway, gateway.client() as client:
            begun = client.post("/streams/live", json={"source": "door", "window_s": 0.4}).json()
            with client.stream("GET", begun["events_url"]) as events:
                assert any(line == "event: window" for line in events.iter_lines())
            assert gateway.children()
            assert PASSWORD not in seen_by_others(gateway)
            camera.is_open = False
            with client.stream("GET", begun["events_url"]) as events:
                lost = next(line for line in events.iter_lines() if "reason" in line)
            assert PASSWORD not in lost
            client.delete(f"/streams/{begun['id']}")
        assert PASSWORD not in "".join(gateway.lines)


def test_secrets_disappear_from_the_process_list_at_the_start():
    arguments = ["watch", f"rtsp://user:{PASSWORD}@127.0.0.1:9/x?y={PASSWORD}", "--key", f"vdk_{PASSWORD}", "kept"]
    script = (
        "import sys, time; from vdeploy.core.process_arguments import mask_secrets\n"
        "mask_secrets(); print(sys.argv[2], flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            assert process.stdout is not None
            assert PASSWORD in process.stdout.readline(), "sys.argv keeps them"
            shown = Path(f"/proc/{process.pid}/cmdline").read_text()
            listed = subprocess.run(
                ["ps", "-o", "args=", "-p", str(process.pid)], capture_output=True, text=True, check=False
            ).stdout
        finally:
            process.kill()
    assert PASSWORD not in shown + listed
    assert "127.0.0.1:9/x" in shown
    assert shown.split("\0")[-2] == "kept"


@pytest.mark.parametrize(
    ("argument", "secrets"),
    [
        (b"rtsp://user:pass@host/x", [b"user:pass"]),
        (b"door=rtsp://user:pa/ss@host", [b"user:pa/ss"]),
        (b"http://host/x?token=a", [b"token=a"]),
        (b"--key=vdk_abc-D_1", [b"vdk_abc-D_1"]),
        (b"clip.mp4", []),
        (b"rtsp://host/x", []),
    ],
)
def test_what_is_secret_in_an_argument(argument: bytes, secrets: list[bytes]):
    assert [argument[first:last] for first, last in secret_spans(argument)] == secrets


@pytest.mark.parametrize(
    "pair",
    [
        f"rtsp://user:{PASSWORD}@127.0.0.1/x",
        f"rtsp://user:{PASSWORD}@127.0.0.1/x?a=b",
        f"door=rtsp://user:{PASSWORD}/x@127.0.0.1",
        f"door=rtsp://user:{PASSWORD}@127.0.0.1:99999/x",
        f"door=rtsp://user:{PASSWORD}@[::1/x",
        f"door=gopher://user:{PASSWORD}@127.0.0.1/x",
        f"=rtsp://user:{PASSWORD}@127.0.0.1/x",
        "door=",
        "door=no-such-file.mp4",
    ],
)
def test_a_malformed_camera_is_refused_in_one_line_without_its_password(pair: str, tmp_path: Path):
    with pytest.raises(UserError) as caught:
        read_cameras([pair])
    file = tmp_path / "cameras.txt"
    file.write_text(f"window=/dev/video0\n{pair}\n")
    with pytest.raises(UserError) as in_file:
        read_cameras([], file)
    for error in (caught, in_file):
        assert PASSWORD not in str(error.value)
        assert "\n" not in str(error.value)


def test_a_malformed_camera_ends_the_command_with_one_line(bundle_dir: Path):
    done = vdeploy("gateway", "--bundle", bundle_dir, "--camera", f"door=rtsp://user:{PASSWORD}#x@127.0.0.1/x")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert PASSWORD not in done.stderr + done.stdout


def test_cameras_have_names_of_their_own(tmp_path: Path):
    with pytest.raises(UserError, match="two cameras named door"):
        read_cameras(["door=/dev/video0", "door=/dev/video1"])
    with pytest.raises(UserError, match="cannot be read"):
        read_cameras([], tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"t\xfcr=/dev/video0\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_cameras([], tmp_path / "latin.txt")
    assert read_cameras([" door = /dev/video0 ", "gate=7"]) == {"door": "/dev/video0", "gate": "/dev/video7"}


def test_a_file_as_a_camera_is_found_from_any_working_directory(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(video.parent)
    assert read_cameras([f"film={video.name}"]) == {"film": str(video)}
