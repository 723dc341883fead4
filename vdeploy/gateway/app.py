"""The FastAPI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from vdeploy import __version__
from vdeploy.gateway.middleware import Envelope, SmallBodies, problem_response
from vdeploy.gateway.problems import Problem
from vdeploy.gateway.routes import canary, operations, page, predict, streams
from vdeploy.gateway.sites import SiteGuard

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from vdeploy.gateway.service import Service

__all__ = ["create_app"]

_CODES = {404: "not_found", 405: "method_not_allowed", 408: "too_slow", 413: "upload_too_large"}
_OVERLOAD = {429, 503}
_UPLOADS = ("/predict", "/predict/frames", "/streams")
_DESCRIPTION = """Scores videos for violence.

A score directs a person's attention; it is no decision about a person."""


def create_app(
    service: Service, names: Collection[str] = (), *, listens_on: str = "localhost", any_host: bool = False
) -> FastAPI:
    """Create the application around a service.

    Args:
        service: The parts of the gateway.
        names: Names under which the gateway may be reached, also behind a proxy.
        listens_on: The address or name that it listens on.
        any_host: Whether it may be reached under other names too.
    """
    app = FastAPI(
        title="vdeploy gateway",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.service = service
    app.add_middleware(SmallBodies, uploads=_UPLOADS)
    app.add_middleware(SiteGuard, names=names, listens_on=listens_on, any_host=any_host)
    app.add_middleware(Envelope, metrics=service.metrics, tracing=service.tracing)
    app.add_exception_handler(Problem, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    for router in (predict.router, streams.router, operations.router, canary.router, page.router):
        app.include_router(router)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    tasks = [asyncio.create_task(service.router.keep_fresh()), asyncio.create_task(service.streams.keep_swept())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


def _answer(request: Request, error: Exception) -> Response:
    problem = _problem(error)
    if problem.status in _OVERLOAD:
        service: Service = request.app.state.service
        service.metrics.refusals.labels(problem.code).inc()
    return problem_response(problem, request.state.request_id)


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return Problem(422, "invalid_request", f"the request is invalid: {places}", "see GET /openapi.json")
    if isinstance(error, HTTPException):
        code = _CODES.get(error.status_code, "refused")
        return Problem(error.status_code, code, str(error.detail), "see GET /openapi.json", headers=error.headers)
    raise error
