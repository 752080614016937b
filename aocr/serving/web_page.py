"""The web page of the server: static files that call the REST endpoint."""

from __future__ import annotations

import html
from pathlib import Path
from string import Template

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

_DIRECTORY = Path(__file__).with_name("page")
_INDEX = "index.html"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    "cache-control": "no-cache",  # another version of aocr may have another page
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
    template = Template((_DIRECTORY / _INDEX).read_text(encoding="utf-8"))
    index = template.substitute(model=html.escape(model_name))
    files = {path.name: path.read_bytes() for path in _DIRECTORY.iterdir() if path.name != _INDEX}

    async def show_index(_request: Request) -> Response:
        return HTMLResponse(index, headers=_HEADERS)

    async def show_file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            raise HTTPException(404)
        return Response(files[name], headers=_HEADERS, media_type=_TYPES[Path(name).suffix])

    return [Route("/", show_index, methods=["GET"]),
            Route("/page/{name}", show_file, methods=["GET"])]
