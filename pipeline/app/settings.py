"""What a server is started with, and its limits."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

API, PORT = "/api/v1", 8765
MOST_UPLOAD_BYTES = 256 * 2**20
"""Of one upload, and of all that is in an archive."""
MOST_QUEUED = 100
"""Jobs that wait."""
UPLOADS_STAY_S = 24 * 3600.0
JOBS_KEPT = 500
"""Finished jobs that are remembered."""
STATE = ".app"
"""The folder of the server's own files, within that of the results."""


@dataclass(frozen=True)
class AppSettings:
    """Of one server."""

    host: str
    port: int
    results: Path
    models: Path
    token: str = ""
    """What requests must carry; empty: nothing, as this machine alone can reach the server."""

    @property
    def state(self) -> Path:
        """The folder of uploads, jobs and pictures."""
        return self.results / STATE

    @property
    def is_loopback(self) -> bool:
        """Whether no other machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
