"""Parameters of the stage `assets`."""

from typing import ClassVar

from pipeline.params.base import StageGroup


class AssetsParams(StageGroup):
    """Sources of objects, the part rule, and the split."""

    name: ClassVar[str] = "assets"

    shards: int
    """Parquet files a table, here and in every later stage."""
    max_failed_share: float
    """The stage fails when a larger share of the objects does."""
    timeout_s: float
    """Seconds one object may take."""
