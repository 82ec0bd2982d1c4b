"""The default backend: views described from names, colours and places, summed up by SmolLM2."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.captions.backend import Caption, UnifyRequest
from pipeline.captions.plain import PlainBackend
from pipeline.captions.summary import Summarizer


class DescribeBackend(PlainBackend):
    """As the plain one, with captions worded by SmolLM2."""

    def __init__(self, models: Path, max_words: int) -> None:
        self.summarizer = Summarizer(models, max_words)

    def unify(self, requests: Sequence[UnifyRequest]) -> list[Caption]:
        """SmolLM2's wording, or the commonest view caption where it goes astray."""
        return self.summarizer(requests)
