"""Routes for administrators: the canary's share of the requests."""

from __future__ import annotations

from fastapi import APIRouter

from vdeploy.gateway.documents import CanaryDocument, ModelDocument, ShareDocument
from vdeploy.gateway.models import ServedModel
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.router import Router
from vdeploy.gateway.routes.shared import Admin, Served, refusals

__all__ = ["router"]

router = APIRouter(tags=["administration"], prefix="/admin/canary")

_REFUSALS = refusals(401, 403, 409)


@router.get("", summary="Which share does the canary get?", responses=_REFUSALS)
async def read(service: Served, _: Admin) -> CanaryDocument:
    """Both versions, and the share of the requests that the new one gets."""
    return _document(service.router)


@router.put("", summary="Give the canary another share", responses={**_REFUSALS, **refusals(400, 408, 413, 422)})
async def shift(service: Served, _: Admin, share: ShareDocument) -> CanaryDocument:
    """Change the share: 0 sends all requests to the serving version, 100 sends all to the canary."""
    service.router.shift(share.percent)
    return _document(service.router)


def _document(served: Router) -> CanaryDocument:
    if served.canary is None:
        raise Problem(409, "no_canary", "this gateway has no canary", "start it with --canary-bundle or --canary-url")
    return CanaryDocument(percent=served.percent, model=_model(served.canary), serving=_model(served.primary))


def _model(model: ServedModel) -> ModelDocument:
    return ModelDocument(version=model.version, run=model.run, classes=model.scorer.classes)
