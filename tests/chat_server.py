"""A small real HTTP server that speaks the chat completions protocol, and misbehaves when told to."""

import base64
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from pipeline.shards.table import decode_png

Fault = tuple[int, str, dict[str, str]] | float
"""A status with its body and headers, or seconds to wait before the ordinary answer."""


class ChatServer:
    """Serves on a free port of this machine while in a `with`; remembers what it was asked."""

    def __init__(self, answer: Callable[[str], Any] = lambda text: "A wooden thing.", seconds: float = 0.0) -> None:
        self.answer, self.seconds = answer, seconds
        self.faults: deque[Fault] = deque()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.pictures: list[np.ndarray] = []
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner._handle(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def _handle(self, call: BaseHTTPRequestHandler) -> None:
        body = json.loads(call.rfile.read(int(call.headers["Content-Length"])))
        with self.lock:
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            self.requests.append(body)
            self.headers.append(dict(call.headers))
            fault = self.faults.popleft() if self.faults else self.seconds
        try:
            if isinstance(fault, tuple):
                reply = fault
            else:
                time.sleep(fault)
                reply = self._complete(call.path, body)
        finally:
            with self.lock:  # before the client can know, and ask again
                self.under_way -= 1
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client waited no longer
            self._send(call, *reply)

    def _complete(self, path: str, body: dict[str, Any]) -> tuple[int, str, dict[str, str]]:
        """What a strict server answers: 400 unless it is a well-formed chat with a picture that decodes."""
        if path != "/v1/chat/completions":
            return 404, "no such path", {}
        content = body["messages"][0]["content"]
        if isinstance(content, list):
            question = content[0]["text"]
            kind, data = content[1]["image_url"]["url"].split(",", 1)
            if kind != "data:image/png;base64":
                return 400, f"cannot read {kind}", {}
            with self.lock:
                self.pictures.append(decode_png(base64.b64decode(data, validate=True)))
        else:
            question = content
        message = {"role": "assistant", "content": self.answer(question)}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return 200, json.dumps({"object": "chat.completion", "model": body["model"], "choices": [choice]}), {}

    def _send(self, call: BaseHTTPRequestHandler, status: int, text: str, headers: dict[str, str]) -> None:
        data = text.encode()
        call.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            call.send_header(name, value)
        call.end_headers()
        call.wfile.write(data)
