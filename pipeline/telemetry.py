"""Nothing that this program uses tells its maker of it."""

import os


def without_telemetry() -> None:
    """Before anything that imports onnxruntime, as diffusers does when it loads a pipeline.

    From its import on, that looks up its maker's host every few seconds; its own switch takes effect too late.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
