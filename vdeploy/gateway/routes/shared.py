"""Dependencies and OpenAPI entries that several routes share."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPBearer

from vdeploy.gateway.deadlines import HEADER, NO_DEADLINE, Deadline
from vdeploy.gateway.documents import ErrorDocument
from vdeploy.gateway.keys import Key
from vdeploy.gateway.limits import MIN_STRIDE_S, MIN_WINDOW_S
from vdeploy.gateway.service import Service
from vdeploy.gateway.uploads import FIELD

__all__ = ["FILE_BODY", "Admin", "Caller", "Due", "Served", "StrideQuery", "WindowQuery", "name_of", "refusals"]

FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FIELD: {"type": "string", "format": "binary", "description": "the video file"}},
                    "required": [FIELD],
                }
            }
        },
    }
}
"""OpenAPI entry of an upload, which is read while it arrives and not by FastAPI."""

_MEANINGS = {
    400: "The body is broken.",
    401: "An API key is needed.",
    403: "The API key does not allow that.",
    404: "There is no such thing.",
    408: "The body did not arrive in time.",
    409: "This gateway has nothing of the kind.",
    413: "The body is too large.",
    415: "The body is of another type.",
    422: "The video or a parameter cannot be used.",
    429: "Too many requests with this key.",
    503: "Busy or not available; Retry-After says when to come back.",
}
_bearer = HTTPBearer(auto_error=False, description="An API key, where the gateway asks for one.")


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


Served = Annotated[Service, Depends(_service)]


def _caller(request: Request, service: Served, _: Annotated[object, Depends(_bearer)]) -> Key | None:
    return service.access.identify(request)


def _admin(request: Request, service: Served, _: Annotated[object, Depends(_bearer)]) -> Key:
    return service.access.identify_admin(request)


Admin = Annotated[Key, Depends(_admin)]
Caller = Annotated[Key | None, Depends(_caller)]


async def _deadline(
    request: Request,
    milliseconds: Annotated[
        float | None,
        Header(
            alias=HEADER,
            ge=1,
            le=86_400_000,
            allow_inf_nan=False,
            description="how long the client waits for the answer; what would take longer is refused early with 503",
        ),
    ] = None,
) -> Deadline:
    return NO_DEADLINE if milliseconds is None else Deadline(request.state.started + milliseconds / 1000)


Due = Annotated[Deadline, Depends(_deadline)]


WindowQuery = Annotated[
    float | None,
    Query(
        ge=MIN_WINDOW_S,
        le=600,
        description="length of a window in seconds; that of the model's training clips if left out",
    ),
]
StrideQuery = Annotated[
    float | None, Query(ge=MIN_STRIDE_S, le=600, description="seconds from window to window; half a window if left out")
]


def name_of(caller: Key | None) -> str:
    """The name of a caller's key; empty where there are no keys."""
    return caller.name if caller else ""


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the statuses with which a route may refuse."""
    return {status: {"model": ErrorDocument, "description": _MEANINGS[status]} for status in statuses}
