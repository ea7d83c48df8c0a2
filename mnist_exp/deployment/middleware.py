"""Middleware of the page's server: limits on request bodies, security headers."""

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
HEADERS = {  # own resources only, no sniffing of types, no referrer, no framing
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


def protect(site: FastAPI, docs: str) -> None:
    """Limit request bodies and add security headers; `docs` is the path of Swagger's page."""
    site.add_middleware(BodySizeLimit)

    @site.middleware("http")
    async def add_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers.update(HEADERS)
        if request.url.path == docs:
            response.headers["Content-Security-Policy"] += INLINE
        return response

    @site.exception_handler(ClientDisconnect)
    async def ignore(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # not sent: the client is gone


class BodySizeLimit:
    """ASGI middleware: answer 413 for a body that is too large before all of it is read."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count the bytes of its body."""
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        limit = MAX_JSON if headers.get("content-type", "").lower().startswith(JSON) else MAX_UPLOAD
        announced, received = int(headers.get("content-length", 0)), 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if max(received, announced) > limit:
                raise HTTPException(413, f"expected at most {limit // 1000:,} kB; send less")
            return message

        await self.app(scope, counted, send)
