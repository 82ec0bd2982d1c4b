"""How Prefect is set up, before it is imported: quiet, nothing sent home, patient with slow disks, closed to others."""

import os
from collections.abc import Mapping

PREFECT: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # the first start makes its database
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200",  # its own UI; of itself it answers every web page
}


def set_up_prefect() -> None:
    """Set these in this process's environment; what the user has set stays."""
    for name, value in PREFECT.items():
        os.environ.setdefault(name, value)
