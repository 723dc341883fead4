"""Real servers on this machine that stream a video as cameras do: MJPEG over HTTP; H.264, MPEG-4 or MPEG-TS over RTSP.

They read the file with PyAV: OpenCV opens one source at a time, so a client in the same process would wait for itself.
"""

from __future__ import annotations

import contextlib
import http.server
import re
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2

__all__ = ["StreamServer", "h264_server", "mjpeg_server", "rtsp_server", "transport_server"]

_RTP_PAYLOAD = 1400
_CLOCK = 90_000
_TS_PARTS = 7 * 188
_FRAGMENT = 28


class StreamServer(socketserver.ThreadingTCPServer):
    """Streams a file over and over.

    Attributes:
        connections: Clients that were served so far.
        close_after: Frames after which a connection is closed; 0 for never.
        lose_every: Of so many packets of a transport stream, the last is lost; 0 for none.
        is_open: Whether new clients get anything.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, handler: type[socketserver.BaseRequestHandler], video: Path, fps: float) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.video, self.fps = video, fps
        self.connections = self.close_after = self.lose_every = 0
        self.is_open = True
        self.stopped = threading.Event()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def paced(self) -> Iterator[int]:
        """Numbers at the frame rate, until the connection is to be closed."""
        started, number = time.monotonic(), 0
        while not self.stopped.is_set() and self.is_open and number != (self.close_after or -1):
            yield number
            number += 1
            time.sleep(max(started + number / self.fps - time.monotonic(), 0))

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no error."""


class _Mjpeg(http.server.BaseHTTPRequestHandler):
    server: StreamServer

    def do_GET(self) -> None:
        if not self.server.is_open:
            self.send_error(503)
            return
        self.server.connections += 1
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with av.open(str(self.server.video)) as file:
            pictures = [frame.to_ndarray(format="bgr24") for frame in file.decode(video=0)]
        for number in self.server.paced():
            jpeg = cv2.imencode(".jpg", pictures[number % len(pictures)])[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
            self.wfile.write(jpeg + b"\r\n")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class _Rtsp(socketserver.StreamRequestHandler):
    server: StreamServer

    def handle(self) -> None:
        if not self.server.is_open:
            return
        while request := self._request():
            method, number = request.split(" ", 1)[0], re.search(r"(?im)^cseq: *(\d+)", request)[1]
            headers, body = self._answer(method)
            lines = ["RTSP/1.0 200 OK", f"CSeq: {number}", *headers, f"Content-Length: {len(body)}", "", body]
            self.wfile.write("\r\n".join(lines).encode())
            if method == "PLAY":
                self.server.connections += 1
                self._stream()
                return

    def _request(self) -> str:
        lines = []
        while line := self.rfile.readline().decode():
            if line == "\r\n":
                return "".join(lines)
            lines.append(line)
        return ""

    def _answer(self, method: str) -> tuple[list[str], str]:
        if method == "DESCRIBE":
            with av.open(str(self.server.video)) as file:
                config = file.streams.video[0].codec_context.extradata.hex()
            sdp = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=file\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                f"a=rtpmap:96 MP4V-ES/{_CLOCK}\r\na=fmtp:96 profile-level-id=1;config={config}\r\na=control:track1\r\n"
            )
            return ["Content-Type: application/sdp"], sdp
        if method == "SETUP":
            return ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"], ""
        return ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN", "Session: 1"], ""

    def _stream(self) -> None:
        with av.open(str(self.server.video)) as file:
            pictures = [self._payloads(bytes(packet)) for packet in file.demux(video=0) if packet.size]
        sequence = 0
        for number in self.server.paced():
            payloads = pictures[number % len(pictures)]
            stamp = round(number / self.server.fps * _CLOCK) & 0xFFFFFFFF
            for part in payloads:
                header = struct.pack(">BBHII", 0x80, 96 | (part is payloads[-1]) << 7, sequence & 0xFFFF, stamp, 1)
                self.wfile.write(struct.pack(">cBH", b"$", 0, len(header) + len(part)) + header + part)
                sequence += 1

    def _payloads(self, content: bytes) -> list[bytes]:
        """The payloads of the RTP packets of a picture."""
        return [content[start : start + _RTP_PAYLOAD] for start in range(0, len(content), _RTP_PAYLOAD)]


class _H264(_Rtsp):
    """Sends the units of each picture, those that are too long for a packet in fragments (RFC 6184, sec. 5.8)."""

    def _answer(self, method: str) -> tuple[list[str], str]:
        if method == "DESCRIBE":
            sdp = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=file\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                f"a=rtpmap:96 H264/{_CLOCK}\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
            )
            return ["Content-Type: application/sdp"], sdp
        return super()._answer(method)

    def _payloads(self, content: bytes) -> list[bytes]:
        payloads = []
        for unit in filter(None, re.split(rb"\x00\x00+\x01", content)):
            if len(unit) <= _RTP_PAYLOAD:
                payloads.append(unit)
                continue
            kind, parts = unit[0], super()._payloads(unit[1:])
            for part in parts:
                edge = (part is parts[0]) << 7 | (part is parts[-1]) << 6
                payloads.append(bytes([kind & 0xE0 | _FRAGMENT, kind & 0x1F | edge]) + part)
        return payloads


class _Transport(_Rtsp):
    """Sends the packets of an MPEG-TS file in RTP, seven at a time, as fast as its share of the frame rate asks for."""

    def _answer(self, method: str) -> tuple[list[str], str]:
        if method == "DESCRIBE":
            sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=file\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
            return ["Content-Type: application/sdp"], sdp
        return super()._answer(method)

    def _stream(self) -> None:
        content = self.server.video.read_bytes()
        parts = [content[start : start + _TS_PARTS] for start in range(0, len(content), _TS_PARTS)]
        for number in self.server.paced():
            if number == len(parts):
                return
            if self.server.lose_every and number % self.server.lose_every == self.server.lose_every - 1:
                continue
            header = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 900 & 0xFFFFFFFF, 1)
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(header) + len(parts[number])) + header + parts[number])


@contextlib.contextmanager
def _serving(server: StreamServer) -> Iterator[StreamServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


def mjpeg_server(video: Path, *, fps: float = 25.0) -> contextlib.AbstractContextManager[StreamServer]:
    """Serves a video at ``http://127.0.0.1:PORT/``."""
    return _serving(StreamServer(_Mjpeg, video, fps))


def rtsp_server(video: Path, *, fps: float = 25.0) -> contextlib.AbstractContextManager[StreamServer]:
    """Serves an MPEG-4 video in an MP4 file at ``rtsp://127.0.0.1:PORT/``."""
    return _serving(StreamServer(_Rtsp, video, fps))


def h264_server(video: Path, *, fps: float = 25.0) -> contextlib.AbstractContextManager[StreamServer]:
    """Serves an H.264 video in an MPEG-TS file without B-frames, over and over, at ``rtsp://127.0.0.1:PORT/``."""
    return _serving(StreamServer(_H264, video, fps))


def transport_server(video: Path, *, rate: float = 500.0) -> contextlib.AbstractContextManager[StreamServer]:
    """Serves an MPEG-TS file once to each client at ``rtsp://127.0.0.1:PORT/``, so many packets a second."""
    return _serving(StreamServer(_Transport, video, rate))
