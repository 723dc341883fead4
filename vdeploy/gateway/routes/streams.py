"""Long videos: watched in the background, their events read as they are found."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from vdeploy.gateway.documents import StreamDocument
from vdeploy.gateway.routes.shared import FILE_BODY, Caller, Served, StrideQuery, WindowQuery, refusals
from vdeploy.gateway.streams import Stream
from vdeploy.gateway.timelines import plan_windows
from vdeploy.gateway.uploads import received_file

__all__ = ["router"]

router = APIRouter(tags=["streams"], prefix="/streams")

_NO_BUFFER = {"X-Accel-Buffering": "no"}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `window`, `event`, `timeline`, `error`, and `end` as the last one.",
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
    """Takes a video and watches it in the background. The video is deleted as soon as it has been watched."""
    limits = service.limits
    plan = plan_windows(service.router.primary, window_s, stride_s)
    service.streams.check_place()
    with service.access.slot(caller):
        async with received_file(
            request, service.folder, limit_bytes=limits.upload_bytes, limit_s=limits.upload_s
        ) as path:
            service.streams.check_place()
            kept = path.rename(path.with_suffix(".stream"))
            stream = service.streams.start(
                service, kept, plan, owner=caller.name if caller else None, request_id=request.state.request_id
            )
    return _document(stream)


@router.get(
    "/{stream_id}/events",
    summary="Read what was found",
    responses={**refusals(401, 404, 422), **_EVENTS},
    response_class=StreamingResponse,
)
async def events(
    stream_id: str,
    service: Served,
    caller: Caller,
    last_event_id: Annotated[int, Header(ge=0, description="number of the last event that was received")] = 0,
) -> StreamingResponse:
    """Everything from the beginning, or from `Last-Event-ID` on, and what follows until the video ends."""
    stream = service.streams.find(stream_id, caller.name if caller else None)
    return StreamingResponse(stream.read(last_event_id, service), media_type="text/event-stream", headers=_NO_BUFFER)


@router.delete("/{stream_id}", status_code=204, summary="Stop watching", responses=refusals(401, 404, 422))
async def end(stream_id: str, service: Served, caller: Caller) -> Response:
    """Gives the video up and forgets what was found."""
    service.streams.end(service.streams.find(stream_id, caller.name if caller else None))
    return Response(status_code=204)


def _document(stream: Stream) -> StreamDocument:
    return StreamDocument(id=stream.id, state=stream.state, events_url=f"/streams/{stream.id}/events")
