"""Routes for long videos and cameras, which are watched in the background while clients read their events."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from vdeploy.gateway.documents import CameraDocument, StreamDocument
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.routes.shared import FILE_BODY, Caller, Served, StrideQuery, WindowQuery, name_of, refusals
from vdeploy.gateway.stream import Stream
from vdeploy.gateway.streams import Streams
from vdeploy.gateway.timelines import plan_windows
from vdeploy.gateway.uploads import received_file
from vdeploy.gateway.watching import watch_camera, watch_video

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["router"]

router = APIRouter(tags=["streams"], prefix="/streams")

_NO_BUFFER = {"X-Accel-Buffering": "no"}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `window`, `event`, `timeline`, `lost`, `error`, and `end` as the last one.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.post(
    "",
    status_code=201,
    summary="Begin to watch a video",
    responses=refusals(400, 401, 408, 413, 415, 422, 429, 503),
    openapi_extra=FILE_BODY,
)
async def begin(
    request: Request, service: Served, caller: Caller, window_s: WindowQuery = None, stride_s: StrideQuery = None
) -> StreamDocument:
    """Receive a video and score it in the background. The video is deleted as soon as it has been scored."""
    limits, owner = service.limits, name_of(caller)
    plan = plan_windows(service.router.primary, window_s, stride_s)
    with service.access.slot(caller), service.streams.admit(owner) as admission:
        async with received_file(
            request, service.folder, limit_bytes=limits.upload_bytes, limit_s=limits.upload_s
        ) as path:
            kept = path.rename(path.with_suffix(".stream"))
        work = functools.partial(watch_video, kept, plan, service.stream_decoders, limits.decoding, owner)
        return _document(admission.start(work, request_id=request.state.request_id))


@router.post(
    "/live",
    status_code=201,
    summary="Begin to watch a camera",
    responses=refusals(400, 401, 404, 408, 413, 422, 429, 503),
)
async def begin_live(request: Request, service: Served, caller: Caller, camera: CameraDocument) -> StreamDocument:
    """Watch a camera that the operator has named until the stream is deleted. A lost connection is opened again."""
    plan_windows(service.router.primary, camera.window_s, camera.stride_s)
    if camera.source not in service.cameras:
        raise Problem(404, "not_found", "there is no camera of this name", "the operator names them: --camera NAME=URL")
    limits, address = service.limits, service.cameras[camera.source]
    with service.access.slot(caller), service.streams.admit(name_of(caller)) as admission:
        work = functools.partial(watch_camera, address, camera.window_s, camera.stride_s, limits.decoding)
        stream = admission.start(work, request_id=request.state.request_id, idle_s=limits.stream_idle_s)
        return _document(stream)


@router.get(
    "/{stream_id}/events",
    summary="Read events",
    responses={**refusals(401, 404, 422, 429, 503), **_EVENTS},
    response_class=StreamingResponse,
)
async def events(
    stream_id: str,
    service: Served,
    caller: Caller,
    last_event_id: Annotated[int, Header(ge=0, description="number of the last event that was received")] = 0,
) -> StreamingResponse:
    """Send all events from the beginning, or after `Last-Event-ID`, until the video ends."""
    return _EventResponse(service.streams, service.streams.find(stream_id, name_of(caller)), last_event_id)


@router.delete("/{stream_id}", status_code=204, summary="Stop watching", responses=refusals(401, 404, 422))
async def end(stream_id: str, service: Served, caller: Caller) -> Response:
    """Stop watching and delete the results."""
    service.streams.end(service.streams.find(stream_id, name_of(caller)))
    return Response(status_code=204)


class _EventResponse(StreamingResponse):
    """The events of a stream; counted as a reader while it is sent."""

    def __init__(self, streams: Streams, stream: Stream, after: int) -> None:
        super().__init__(stream.read(after), media_type="text/event-stream", headers=_NO_BUFFER)
        self._streams, self._stream = streams, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.reading(self._stream):
            await super().__call__(scope, receive, send)


def _document(stream: Stream) -> StreamDocument:
    return StreamDocument(id=stream.id, state=stream.state, events_url=f"/streams/{stream.id}/events")
