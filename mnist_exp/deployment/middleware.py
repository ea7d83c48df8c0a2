"""What the page's server takes from a client, and what it lets a browser do with its answers."""

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON = "application/json"
MAX_UPLOAD, MAX_JSON = 10_000_000, 100_000  # bytes; 784 numbers have 4,000
POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'"
INLINE = "; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"  # Swagger's page
HEADERS = {  # nothing from elsewhere, nothing guessed, nothing told, nobody's frame
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


def protect(site: FastAPI, docs: str) -> None:
    """Limits every request's body, and gives every answer its headers; `docs` is Swagger's page."""
    site.add_middleware(BodySizeLimit)

    @site.middleware("http")
    async def add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        if request.url.path == docs:
            response.headers["Content-Security-Policy"] += INLINE
        return response

    @site.exception_handler(ClientDisconnect)
    async def leave(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # that nobody hears


class BodySizeLimit:
    """Refuses a body that is too large before it is read whole."""

    def __init__(self, inner: ASGIApp) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, counting what comes."""
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        most = MAX_JSON if headers.get("content-type", "").lower().startswith(JSON) else MAX_UPLOAD
        announced, came = int(headers.get("content-length", 0)), 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if max(came, announced) > most:
                raise HTTPException(413, f"expected at most {most // 1000:,} kB; send less")
            return message

        await self.inner(scope, counted, send)
