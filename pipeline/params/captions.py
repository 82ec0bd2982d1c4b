"""Parameters of the stage `captions`."""

from typing import ClassVar

from pipeline.params.base import StageGroup


class CaptionsParams(StageGroup):
    """Prompt pictures, the backend, and its limits."""

    name: ClassVar[str] = "captions"

    backend: str
    """`describe`, `openai` or `mllama`."""
    max_failed_share: float
    """The stage fails when a larger share of the objects does."""
    timeout_s: float
    """Seconds one object may take."""
