"""Routes that score an uploaded video, or frames that the client has decoded."""

from __future__ import annotations

import functools
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from vdeploy.gateway.documents import ModelDocument, Prediction, TimelineDocument, Timings
from vdeploy.gateway.models import ServedModel
from vdeploy.gateway.routes.shared import FILE_BODY, Caller, Due, Served, StrideQuery, WindowQuery, name_of, refusals
from vdeploy.gateway.service import Service
from vdeploy.gateway.timelines import make_timeline, plan_windows
from vdeploy.gateway.uploads import received_array, received_file

__all__ = ["router"]

router = APIRouter(tags=["verdicts"])

_ARRAY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "a `.npy` file with `uint8[frames, size, size, 3]`, RGB, as GET /model says",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_REFUSALS = refusals(400, 401, 408, 413, 415, 422, 429, 503)
_LONG_CLIP_S = 10.0


@router.post("/predict", summary="Score a video", responses=_REFUSALS, openapi_extra=FILE_BODY)
async def predict(
    request: Request,
    service: Served,
    caller: Caller,
    deadline: Due,
    timeline: Annotated[bool, Query(description="score windows that slide over the video, and find events")] = False,
    window_s: WindowQuery = None,
    stride_s: StrideQuery = None,
) -> Prediction:
    """Score an uploaded video as one clip or, with a timeline, window by window.

    The video is deleted as soon as it has been scored.
    """
    limits, owner, trace = service.limits, name_of(caller), request.state.trace
    with service.access.slot(caller), service.router.lease(request.state.request_id) as model:
        deadline.admit(service.decoders.expected_s + model.batcher.expected_s)
        answer = _Answer(request, service, model)
        plan = plan_windows(model, window_s, stride_s)
        async with received_file(
            request, service.folder, limit_bytes=limits.upload_bytes, limit_s=limits.upload_s
        ) as path:
            answer.lap("receive_ms")
            if timeline:
                making = functools.partial(
                    make_timeline, path, model, service.decoders, limits.decoding, plan=plan, owner=owner
                )
                with trace.span("timeline"):
                    found = await service.while_connected(
                        request, lambda check: making(check=check, trace=trace), deadline=deadline
                    )
                answer.lap("score_ms")
                document = TimelineDocument.model_validate(found.to_dict())
                return answer.complete(found.peak_probability, found.warnings, document)
            deadline.admit(service.decoders.expected_s + model.batcher.expected_s)
            clip = await service.decode(request, path, model.scorer.spec, owner, deadline)
        answer.lap("decode_ms")
        scored = await model.score(clip.frames, deadline, trace)
    model.scores.add(scored.probability)
    answer.laps |= {"queue_ms": scored.waited_ms, "score_ms": scored.took_ms}
    seconds = clip.count / clip.fps if clip.fps > 0 else 0.0
    is_long = seconds > _LONG_CLIP_S
    remarks = [f"it is {seconds:.0f} s long and was scored as one clip; request a timeline"] if is_long else []
    return answer.complete(scored.probability, [*clip.warnings, *remarks])


@router.post("/predict/frames", summary="Score decoded frames", responses=_REFUSALS, openapi_extra=_ARRAY_BODY)
async def predict_frames(request: Request, service: Served, caller: Caller, deadline: Due) -> Prediction:
    """Score the frames of one clip, which the client has decoded as `GET /model` says."""
    with service.access.slot(caller), service.router.lease(request.state.request_id) as model:
        deadline.admit(model.batcher.expected_s)
        answer = _Answer(request, service, model)
        clip = await received_array(request, model.scorer.spec, limit_s=service.limits.upload_s)
        answer.lap("receive_ms")
        scored = await model.score(clip, deadline, request.state.trace)
        model.scores.add(scored.probability)
    answer.laps |= {"queue_ms": scored.waited_ms, "score_ms": scored.took_ms}
    return answer.complete(scored.probability, [])


class _Answer:
    """Builds an answer: which model gives it, and how long each step took."""

    def __init__(self, request: Request, service: Service, model: ServedModel) -> None:
        self.model = model
        self.laps: dict[str, float] = {}
        self._service = service
        self._request_id: str = request.state.request_id
        self._start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = (now - self._last) * 1000, now

    def complete(
        self, probability: float, warnings: list[str] | tuple[str, ...], timeline: TimelineDocument | None = None
    ) -> Prediction:
        model, scorer = self.model, self.model.scorer
        self._service.metrics.verdicts.labels(model.version).inc()
        laps = {**self.laps, "total_ms": (time.perf_counter() - self._start) * 1000}
        return Prediction(
            violent_probability=probability,
            is_violent=probability >= scorer.threshold,
            threshold=scorer.threshold,
            model=ModelDocument(version=model.version, run=model.run, classes=scorer.classes),
            timeline=timeline,
            timings=Timings(**{name: round(lap, 3) for name, lap in laps.items()}),
            warnings=list(warnings),
            request_id=self._request_id,
        )
