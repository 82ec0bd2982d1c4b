"""Runs the server until it is told to end."""

import secrets
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from types import FrameType

import uvicorn

from pipeline.app.server import create_app
from pipeline.app.settings import AppSettings, is_loopback
from pipeline.errors import UserError

ENDING_S = 2


class _Server(uvicorn.Server):
    """Streams end with the server, and do not hold it up."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come."""
        self.config.app.state.partgen.ending.set()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def serve(host: str, port: int, results: Path, models: Path, browser: bool) -> None:
    """Serve the page and the API; UserError when the address cannot be had.

    Beyond this machine's own addresses requests need a token, which is printed once.
    """
    results.mkdir(parents=True, exist_ok=True)
    bound = _bound(host, port)
    port = bound.getsockname()[1]
    token = "" if is_loopback(host) else secrets.token_urlsafe(24)
    settings = AppSettings(host, port, results.resolve(), models.resolve(), token)
    app = create_app(settings)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    print(f"PartGen is at {address} (Ctrl-C ends it); results are in {results}.")
    if token:
        print("Other machines can reach it, so that it asks for the token of this address; keep it to yourself.")
    sys.stdout.flush()
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=ENDING_S, server_header=False,
        http="h11", ws="none",
    )  # fmt: skip
    _Server(config).run(sockets=[bound])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host.strip("[]"), port))
        found.listen(512)
    except OSError as error:
        found.close()
        raise UserError(
            f"{host}:{port} cannot be served ({error.strerror}); name another --port (0: any that is free) or --host."
        ) from None
    found.set_inheritable(False)
    return found
