"""Who may ask: requests of this server's own pages and of programs, by the right name and with the token."""

import hmac
import json
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.app.refusals import Refusal
from pipeline.app.settings import AppSettings, is_loopback

COOKIE = "partgen-token"
ANY_ADDRESS = ("0.0.0.0", "::")
CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self' blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Guard:
    """Refuses requests by another host's name (DNS rebinding), of other sites' pages, and without the token; adds the
    headers by which browsers run and show nothing but what this server sends.
    """

    def __init__(self, app: ASGIApp, settings: AppSettings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check_names(scope, headers)
            entered = self._entered(scope)
            if not entered:
                self._check_token(headers)
        except Refusal as refusal:
            await _answer(with_headers, refusal.status, json.dumps(refusal.document).encode())
            return
        if entered:
            cookie = f"{COOKIE}={self.settings.token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
            location = ((b"location", b"/"), (b"set-cookie", cookie.encode()))
            await _answer(with_headers, 303, b"", location)
            return
        await self.app(scope, receive, with_headers)

    def _check_names(self, scope: Scope, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        name = (urlsplit(f"//{host}").hostname or "") if host else ""
        if not (is_loopback(name) or name == self.settings.host or self.settings.host in ANY_ADDRESS):
            raise Refusal(403, f"This server is not called {host!r}; open it by the address that it printed.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal(403, f"A page of {origin!r} may not use this server.")
        if scope["path"].startswith("/api/") and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refusal(403, "A page of another site may not use this server.")

    def _entered(self, scope: Scope) -> bool:
        """Whether it is the address with the token, which a browser is given once and keeps as a cookie."""
        if not self.settings.token or scope["path"] != "/":
            return False
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return self._is_token(given)

    def _check_token(self, headers: dict[str, str]) -> None:
        if not self.settings.token:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if not (kind.lower() == "bearer" and self._is_token(given.strip())) and not (
            cookie is not None and self._is_token(cookie.value)
        ):
            raise Refusal(401, "This server asks for a token; open the address that it printed when it was started.")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.settings.token.encode())


async def _answer(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    kind = ((b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *headers]})
    await send({"type": "http.response.body", "body": body})
