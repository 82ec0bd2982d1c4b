"""Where prompt pictures may be sent, and with which key: said by the environment of whoever runs this, never by params.

Params come with a project, an override or a form of Prefect's UI, so that a stranger may have written them.
"""

import ipaddress
import os
from dataclasses import dataclass, field
from typing import Self

import httpx

from pipeline.errors import UserError

KEY = "PARTGEN_CAPTIONS_API_KEY"
"""Environment variable with the key that goes to the endpoint; unset or empty where it wants none."""
HOSTS = "PARTGEN_CAPTIONS_HOSTS"
"""Environment variable with the hosts that may be asked, each HOST or HOST:PORT, with commas between them; nothing but
them. When it is unset: this machine, by a loopback address or as localhost."""
FRAGMENT = 8
"""So many characters of a key in a row are kept secret, too: an endpoint may cut what it echoes."""
SCHEMES = {"http": 80, "https": 443}
"""With their ports."""


@dataclass(frozen=True)
class Access:
    """An endpoint that may be asked."""

    url: httpx.URL
    """Where chat completions are asked for."""
    key: str = field(repr=False)
    """Empty for none."""

    @classmethod
    def of(cls, base_url: str) -> Self:
        """To `captions.endpoint.base_url`; UserError when it is no URL, or one that is not allowed."""
        return cls(_allowed_url(base_url), _key())

    def client(self) -> httpx.AsyncClient:
        """It follows no redirects, so that the key goes to no other host, and waits for ever: set a limit."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        # A proxy of the environment is for the network, and what it calls localhost is itself.
        transport = httpx.AsyncHTTPTransport() if _is_loopback(self.url.host) else None
        return httpx.AsyncClient(timeout=None, headers=headers, transport=transport)

    def is_told_in(self, text: str) -> bool:
        """Whether a text holds the key or a larger part of it. A short key, such as `ollama`, is no secret."""
        return len(self.key) >= FRAGMENT and self.redacted(text) != text

    def redacted(self, text: str) -> str:
        """A text of the endpoint's without the key and larger parts of it."""
        size = min(FRAGMENT, len(self.key))
        if not size:
            return text
        fragments = {self.key[start : start + size] for start in range(len(self.key) - size + 1)}
        hidden = {at + step for at in range(len(text)) if text[at : at + size] in fragments for step in range(size)}
        return "".join(letter if at not in hidden else "*"[at - 1 in hidden :] for at, letter in enumerate(text))


def _allowed_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(f"{base_url.rstrip('/')}/chat/completions")
    except (httpx.InvalidURL, UnicodeError) as error:
        # What cannot be taken apart cannot be shown without its password.
        said = "no URL" if "@" in base_url else f"{base_url!r}: {str(error).rstrip('.')}"
        raise UserError(f"captions.endpoint.base_url is {said}; give one such as http://localhost:8000/v1.") from None
    if url.userinfo or url.query:
        raise UserError(
            f"captions.endpoint.base_url for {url.host} holds a user, a password or a query; take it out of the "
            f"params, which anyone may read, and put the key into the environment variable {KEY}."
        )
    if url.scheme not in SCHEMES or not url.host:
        raise UserError(
            f"captions.endpoint.base_url is {base_url!r}, which is no http or https URL; give one such as "
            "http://localhost:8000/v1."
        )
    named = [name.strip().casefold() for name in os.environ.get(HOSTS, "").split(",") if name.strip()]
    host = f"[{url.host}]" if ":" in url.host else url.host
    port = url.port or SCHEMES[url.scheme]
    if not ({url.host, host, f"{host}:{port}"} & set(named) if named else _is_loopback(url.host)):
        others = f"{HOSTS} names {', '.join(named)} alone" if named else "this machine alone is allowed"
        raise UserError(
            f"captions.endpoint.base_url leads to {host}:{port}, and {others}; if its pictures and the API key may go "
            f"there, export {HOSTS}={host}:{port} in the shell (or service) that runs this."
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"{KEY} holds characters that no key has, such as blanks; export it again.")
    return key
