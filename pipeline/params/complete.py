"""Parameters of the stage `complete`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.params.base import StageGroup

Method = Literal["complete", "complete_no_context", "complete_single_view", "complete_joint"]

ALONE = "_alone"
"""Ends the name of a method where the network's first draw of a part is meant, with nothing pasted, as in the paper."""


class CompleteParams(StageGroup):
    """Parts drawn whole and alone, of the same objects that were segmented."""

    name: ClassVar[str] = "complete"
    aside = frozenset({"max_failed_share", "timeout_s"})

    methods: list[Method]
    """Networks that complete the true parts, for Table 2; predicted parts are completed by `complete` alone."""
    seed: int
    """Of the parts' noise."""
    draws: Annotated[int, Field(ge=1)]
    """Times that each part is drawn, from different noise; the one whose four silhouettes fit each other best is taken.
    The paper draws one."""
    keep_visible: bool
    """Whether what the grid shows stays: pixels of the mask as they are, and, for a network that sees the whole object,
    white where no part's mask is near; else all of the part's picture is the network's, as in the paper."""
    max_failed_share: Annotated[float, Field(ge=0, le=1)]
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take."""
