"""The server: a page, the runtime's files, the models and their inputs, and a place to send figures to.

Every address starts with the session's token; whatever is not in one of the tables does not exist.
"""

from collections.abc import Mapping
from pathlib import Path
from secrets import compare_digest
from typing import Any

import numpy as np
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from paredown.devices.browser.messages import MESSAGE, MOST_BYTES
from paredown.devices.browser.session import Session
from paredown.errors import DeviceError

_PAGE = Path(__file__).parent / "page"
PAGE_FILES = ("index.html", "style.css", "main.js", "link.js", "runtime.js", "timing.js", "view.js")
_MEDIA = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".wasm": "application/wasm",
}
_HEADERS = {
    # The three that make a page "cross-origin isolated", without which browsers give no threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Nothing from outside; the runtime compiles WebAssembly and makes functions from text.
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def make_app(session: Session, runtime: Mapping[str, Path]) -> Any:
    """The ASGI application.

    Args:
        session: What is offered and what comes back.
        runtime: Name -> file of LiteRT.js.
    """
    files = {name: _PAGE / name for name in PAGE_FILES}
    models = {str(place): offer.path for place, offer in enumerate(session.offers)}
    inputs = {
        f"{file}-{place}": array
        for file, offer in enumerate(session.offers)
        for place, array in enumerate(offer.inputs.values())
    }

    async def page(request: Request) -> Response:
        return _file(files, request.path_params.get("name", "index.html"))

    async def litert(request: Request) -> Response:
        return _file(runtime, request.path_params["name"])

    async def model(request: Request) -> Response:
        return _file(models, request.path_params["name"])

    async def job(_: Request) -> Response:
        return JSONResponse(session.job())

    async def values(request: Request) -> Response:
        array = inputs.get(request.path_params["name"])
        if array is None:
            raise HTTPException(404)
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return Response(plain.tobytes(), media_type="application/octet-stream")

    async def receive(request: Request) -> Response:
        try:
            message = MESSAGE.validate_json(await _body(request))
            return JSONResponse(session.receive(request.path_params["name"], message))
        except ValidationError as error:
            raise HTTPException(400, f"{error.error_count()} fields are wrong.") from error
        except DeviceError as error:
            raise HTTPException(409, str(error)) from error

    routes = [
        Route("/", page),
        Route("/job", job),
        Route("/{name}", page),
        Route("/litert/{name}", litert),
        Route("/model/{name}", model),
        Route("/input/{name}", values),
        Route("/phone/{name}", receive, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return _Guard(app, session)


def _file(table: Mapping[str, Path], name: str) -> Response:
    if name not in table:
        raise HTTPException(404)
    return FileResponse(table[name], media_type=_MEDIA.get(table[name].suffix, "application/octet-stream"))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"A message must have at most {MOST_BYTES} bytes.")
    return bytes(body)


class _Guard:
    """Lets pass what starts with the token, takes it off, adds the headers, and notes every sign of life."""

    def __init__(self, app: Any, session: Session):
        self._app, self._session = app, session

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _, token, rest = (*scope["path"].split("/", 2), "", "")[:3]
        if not compare_digest(token.encode(), self._session.token.encode()):
            await Response("Not found", 404)(scope, receive, send)
            return

        async def heard() -> Any:
            self._session.sign()
            return await receive()

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            # A large model goes out piece by piece, the next when the phone has taken the last: a sign, too.
            self._session.sign()
            await send(message)

        inside = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}
        await self._app(inside, heard, sent)
