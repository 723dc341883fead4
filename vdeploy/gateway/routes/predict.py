"""Verdicts: on an uploaded video, and on frames that the client decoded itself."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request

from vdeploy.gateway.documents import ModelDocument, Prediction, Timings
from vdeploy.gateway.routes.shared import Caller, Served, refusals
from vdeploy.gateway.uploads import FIELD, received_array, received_file

__all__ = ["router"]

router = APIRouter(tags=["verdicts"])

_FILE_BODY: dict[str, Any] = {
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
_ARRAY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "a `.npy` file with `uint8[frames, size, size, 3]`, RGB, as GET /model says",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_LONG_CLIP_S = 10.0


@router.post(
    "/predict",
    summary="Judge a video",
    responses=refusals(400, 401, 408, 413, 415, 422, 429, 503),
    openapi_extra=_FILE_BODY,
)
async def predict(request: Request, service: Served, caller: Caller) -> Prediction:
    """Judges an uploaded video as one clip. The video is deleted as soon as it has been judged."""
    watch = _Watch()
    limits = service.limits
    with service.access.slot(caller):
        async with received_file(
            request, service.folder, limit_bytes=limits.upload_bytes, limit_s=limits.upload_s
        ) as path:
            receive_ms = watch.lap()
            decoded = await service.decode(path)
        decode_ms = watch.lap()
        model = service.model
        scored = await model.score(decoded.frames)
    warnings = list(decoded.warnings)
    seconds = decoded.count / decoded.fps if decoded.fps > 0 else 0.0
    if seconds > _LONG_CLIP_S:
        warnings.append(f"it is {seconds:.0f} s long and was judged as one clip; ask for a timeline")
    service.metrics.verdicts.labels(model.version).inc()
    return Prediction(
        violent_probability=scored.probability,
        is_violent=scored.probability >= model.scorer.threshold,
        threshold=model.scorer.threshold,
        model=ModelDocument(version=model.version, run=model.run, classes=model.scorer.classes),
        timings=Timings(
            receive_ms=receive_ms,
            decode_ms=decode_ms,
            queue_ms=scored.waited_ms,
            score_ms=scored.took_ms,
            total_ms=watch.total(),
        ),
        warnings=warnings,
        request_id=request.state.request_id,
    )


@router.post(
    "/predict/frames",
    summary="Judge decoded frames",
    responses=refusals(400, 401, 408, 413, 415, 422, 429, 503),
    openapi_extra=_ARRAY_BODY,
)
async def predict_frames(request: Request, service: Served, caller: Caller) -> Prediction:
    """Judges the frames of one clip, which the client has decoded as `GET /model` says."""
    watch = _Watch()
    with service.access.slot(caller):
        model = service.model
        clip = await received_array(request, model.scorer.spec, limit_s=service.limits.upload_s)
        receive_ms = watch.lap()
        scored = await model.score(clip)
    service.metrics.verdicts.labels(model.version).inc()
    return Prediction(
        violent_probability=scored.probability,
        is_violent=scored.probability >= model.scorer.threshold,
        threshold=model.scorer.threshold,
        model=ModelDocument(version=model.version, run=model.run, classes=model.scorer.classes),
        timings=Timings(
            receive_ms=receive_ms,
            decode_ms=0.0,
            queue_ms=scored.waited_ms,
            score_ms=scored.took_ms,
            total_ms=watch.total(),
        ),
        warnings=[],
        request_id=request.state.request_id,
    )


class _Watch:
    """Laps in milliseconds."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        took, self._last = now - self._last, now
        return round(took * 1000, 3)

    def total(self) -> float:
        return round((time.perf_counter() - self._start) * 1000, 3)
