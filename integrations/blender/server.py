# SPDX-License-Identifier: GPL-3.0-or-later
"""What the extension asks of `partgen app`, by its HTTP API. Nothing here needs Blender."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from threading import Event
from typing import Any

API = "/api/v1"
CONNECT_S, POLL_S = 30.0, 0.3
OVER = ("done", "failed", "cancelled")

Document = dict[str, Any]
Report = Callable[[str, float | None], None]
"""Told of a step in words and of the share that is done, if that is known."""


class ServerError(Exception):
    """What the server refuses or does not answer: one sentence."""


class Cancelled(Exception):
    """The user has ended it."""


class Server:
    """One server, by its address and, beyond this machine, its token."""

    def __init__(self, address: str, token: str = "") -> None:
        self.address = address.strip().rstrip("/")
        self.token = token.strip()
        if urllib.parse.urlsplit(self.address).scheme not in ("http", "https"):
            raise ServerError(f"The server's address is {address!r}; give one such as http://127.0.0.1:8765.")
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def take_apart(self, glb: bytes, name: str, options: Document, report: Report, cancelled: Event) -> Document:
        """The object of a GLB in parts."""
        report("Sending", None)
        sent = self._ask("POST", f"/uploads?name={urllib.parse.quote(name)}.glb", glb)
        return self._job({"command": "decompose", "upload": sent["id"], "options": options}, report, cancelled)

    def edit(self, found: Document, part: int, prompt: str, report: Report, cancelled: Event) -> Document:
        """The object with one part, by its number, drawn anew after a text."""
        asked = {"command": "edit", "object": found["id"], "version": found["version"], "part": str(part)}
        return self._job({**asked, "prompt": prompt, "options": {}}, report, cancelled)

    def regroup(self, found: Document, parts: int) -> Document:
        """The object in another number of parts."""
        asked = {"version": found["version"], "parts": parts}
        return self._ask("POST", f"/objects/{found['id']}/regroup", json.dumps(asked).encode())

    def glb(self, found: Document) -> bytes:
        """The object's GLB, as the document of it says."""
        return self._bytes("GET", found["files"]["object"], None)

    def _job(self, request: Document, report: Report, cancelled: Event) -> Document:
        job = self._ask("POST", "/jobs", json.dumps(request).encode())
        while job["state"] not in OVER:
            if cancelled.is_set():
                self._ask("DELETE", f"/jobs/{job['id']}")
                raise Cancelled
            waiting = "Waiting" if job["state"] == "queued" else "Starting"
            report(job["step"] or waiting, job["progress"])
            time.sleep(POLL_S)
            job = self._ask("GET", f"/jobs/{job['id']}")
        if job["state"] != "done":
            raise ServerError(job["error"] or f"The job was {job['state']}.")
        return self._ask("GET", f"/objects/{job['object']}")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Document:
        content = self._bytes(method, API + path, body)
        document: Document = json.loads(content) if content else {}
        return document

    def _bytes(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = {
            "content-type": "application/octet-stream" if path.startswith(f"{API}/uploads") else "application/json"
        }
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.address + path, body, headers, method=method)
        try:
            with self._open(request, timeout=CONNECT_S) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            raise ServerError(_sentence(error)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ServerError(
                f"The server {self.address} does not answer ({reason}); start it in the extension's preferences, or "
                "with `partgen app`."
            ) from None


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"The server answers with the status {error.code}."
