"""Where the checkpoints of a training lie, by what it is trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.shards.scratch import scratch
from pipeline.shards.store import content_key

CONTRACT = "training/1"


def training_folder(name: str, *inputs: bytes | str | BaseModel | Mapping[str, Any]) -> Path:
    """Where the training `name` on these inputs (parameters, manifests, code contracts) keeps its checkpoints.

    The same inputs find their checkpoints again; any change of them starts afresh in another folder.
    """
    return scratch() / "training" / f"{name}-{content_key(CONTRACT, *inputs)[:16]}"
