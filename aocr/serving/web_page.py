"""The web page of the server: static files that call the REST endpoint."""

from __future__ import annotations

import html
from pathlib import Path
from string import Template
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

_DIRECTORY = Path(__file__).with_name("page")
_HEADERS = {
    "cache-control": "no-cache",  # browsers ask whether a file has changed
    "content-security-policy":
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def routes(model_name: str) -> list[BaseRoute]:
    """Returns the routes of the page, `GET /` and `GET /page/FILE`.

    Args:
        model_name: Name of the model in requests.
    """
    template = Template((_DIRECTORY / "index.html").read_text(encoding="utf-8"))
    index = template.substitute(model=html.escape(model_name))

    async def show(_request: Request) -> Response:
        return HTMLResponse(index, headers=_HEADERS)

    return [Route("/", show, methods=["GET"]), Mount("/page", _Files(directory=_DIRECTORY))]


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401
        """Returns the response of Starlette with the headers of the page."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_HEADERS)
        return response
