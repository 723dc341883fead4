"""Routes for operators: liveness, readiness, metrics, and what is served."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from vdeploy.gateway.documents import About, ClipShape, Health, ModelDocument
from vdeploy.gateway.metrics import CONTENT_TYPE
from vdeploy.gateway.routes.shared import Served, refusals

__all__ = ["router"]

router = APIRouter(tags=["operation"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Answer 200 as long as the process works."""
    return Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Would a video be answered?", responses=refusals(503))
async def readyz(service: Served) -> Health:
    """Answer 200 if a video was decoded and scored lately; the answer is a few seconds old at most."""
    await service.check_ready()
    return Health(status="ready")


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def metrics(service: Served) -> Response:
    """Counters and histograms in Prometheus' text format."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/model", summary="What does it serve and accept?")
async def model(service: Served) -> About:
    """The model, the frames that it expects, and the limits of this gateway."""
    served, decoding = service.router.primary, service.limits.decoding
    scorer = served.scorer
    return About(
        model=ModelDocument(version=served.version, run=served.run, classes=scorer.classes),
        threshold=scorer.threshold,
        clip=ClipShape(frames=scorer.spec.frames, size=scorer.spec.size, fit=scorer.spec.fit),
        api_key_required=service.access.asks_for_keys,
        timelines=True,
        max_upload_bytes=service.limits.upload_bytes,
        max_duration_s=decoding.duration_s,
        max_pixels=decoding.pixels,
        max_frames=decoding.frames,
    )
