"""An OTLP/HTTP receiver of traces: a small web server that parses what it is sent, protobuf or JSON."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped]


class Receiver:
    """What has been received.

    Attributes:
        url: Its address, without a path.
        paths: Paths of the requests.
        services: Names of the services that have sent something.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.paths: list[str] = []
        self.services: set[str] = set()
        self._spans: list[Any] = []

    def take(self, path: str, kind: str, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.paths.append(path)
        if kind == "application/json":
            request = json_format.ParseDict(_with_bytes(json.loads(body)), ExportTraceServiceRequest())
        else:
            request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.services.add(attributes.get("service.name", ""))
            self._spans += [span for scope in resource.scope_spans for span in scope.spans]

    def spans(self, trace_id: str = "") -> dict[str, list[Any]]:
        """Spans by name, those of one trace if it is named."""
        found: dict[str, list[Any]] = {}
        for span in list(self._spans):
            if not trace_id or span.trace_id.hex() == trace_id:
                found.setdefault(span.name, []).append(span)
        return found


def _with_bytes(value: Any) -> Any:
    """OTLP's JSON has ids in hexadecimal digits, protobuf's has them in base64."""
    if isinstance(value, list):
        return [_with_bytes(each) for each in value]
    if not isinstance(value, dict):
        return value
    ids = {"traceId", "spanId", "parentSpanId"}
    return {
        name: base64.b64encode(bytes.fromhex(each)).decode() if name in ids else _with_bytes(each)
        for name, each in value.items()
    }


@contextlib.contextmanager
def otlp_receiver() -> Iterator[Receiver]:
    """Runs a receiver on a free port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.take(self.path, self.headers["Content-Type"], body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
