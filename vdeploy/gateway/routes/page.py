"""Route of the page for people."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.head("/")
@router.get("/")
async def page() -> HTMLResponse:
    """One HTML file without other resources; its content security policy forbids the browser to load any."""
    content, policy = _page()
    return HTMLResponse(content, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})


@functools.cache
def _page() -> tuple[str, str]:
    content = files("vdeploy.gateway").joinpath("page/index.html").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_hash_of('script', content)}; style-src {_hash_of('style', content)}; "
        "img-src data:; media-src blob:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return content, policy


def _hash_of(tag: str, content: str) -> str:
    (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", content, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
