"""GStreamer's RTSP server, in a process of the system's Python.

On Debian: python3-gi, gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good, -bad and -ugly.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

__all__ = ["SYSTEM_PYTHON", "has_gstreamer", "rtsp_server"]

SYSTEM_PYTHON = "/usr/bin/python3"

_IMPORTS = """
import gi, sys
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
"""
_SERVER = (
    _IMPORTS
    + """
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(sys.argv[1])
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.timeout_add_seconds(120, lambda: sys.exit(0))
GLib.MainLoop().run()
"""
)
_ELEMENTS = "for name in ('x264enc', 'x265enc', 'interlace', 'rtph264pay'): assert Gst.ElementFactory.find(name)"


def has_gstreamer() -> bool:
    """Whether the system has the server and the encoders."""
    command = [SYSTEM_PYTHON, "-c", _IMPORTS + _ELEMENTS]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except OSError:
        return False


@contextlib.contextmanager
def rtsp_server(pipeline: str) -> Iterator[str]:
    """Serves what a pipeline of GStreamer makes, for at most two minutes; gives the address."""
    command = [SYSTEM_PYTHON, "-c", _SERVER, f"( {pipeline} )"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"rtsp://127.0.0.1:{int(process.stdout.readline())}/camera"
        finally:
            process.kill()
