"""The page for people."""

from __future__ import annotations

import functools
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-page'; style-src 'nonce-page'; img-src 'self' data:; "
    "media-src blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)


@functools.cache
def _page() -> str:
    return files("vdeploy.gateway").joinpath("page/index.html").read_text(encoding="utf-8")


@router.get("/")
async def page() -> HTMLResponse:
    """One file with everything in it."""
    return HTMLResponse(_page(), headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})
