"""What a caption backend is asked and what it answers (supplement A.8: captions per view first, then a single one)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from pipeline.shards.table import encode_png


@dataclass(frozen=True)
class Subject:
    """What a caption is about: a part, or the whole object when `part_name` is None.

    Names are the artist's, of any content; `pipeline.captions.names` turns them into words.
    """

    object_name: str
    category: str
    part_name: str | None
    place: str
    """Where the part's box lies in the object's, such as `at the bottom left`; empty for the middle and for wholes."""
    siblings: tuple[str, ...]
    """Names of the object's parts, largest first, that a caption of the whole may mention."""


@dataclass(frozen=True)
class ViewRequest:
    """One view in which the subject is visible."""

    subject: Subject
    view: np.ndarray
    """The whole object's view, uint8 (V, V, 4), straight alpha."""
    mask: np.ndarray
    """Where the subject is visible in it, bool (V, V)."""
    draw: Callable[[], np.ndarray]
    """Draws the prompt picture, uint8 RGB (size, size, 3)."""

    @cached_property
    def prompt(self) -> bytes:
        """PNG of the prompt picture: the view with the red annulus, or the plain view for a whole object."""
        return encode_png(self.draw())


@dataclass(frozen=True)
class UnifyRequest:
    """The captions of a subject's views, at least one, that a LLaMA words as one."""

    subject: Subject
    views: tuple[str, ...]


@dataclass(frozen=True)
class NameRequest:
    """A part, or an object, that nobody has named yet."""

    subject: Subject
    caption: str
    """Its unified caption."""


@dataclass(frozen=True)
class Caption:
    """A caption and what wrote it, such as `smollm2-135m`, `template` or `openai/MODEL`."""

    text: str
    backend: str


class CaptionBackend(Protocol):
    """Captions for many requests at once, so that a backend can batch them or send them side by side.

    All methods return one answer a request, in order. They raise ObjectFailed when an answer is of no use, and
    UserError when no answer can be had at all.
    """

    def describe_views(self, requests: Sequence[ViewRequest]) -> list[Caption]:
        """One caption a view."""

    def unify(self, requests: Sequence[UnifyRequest]) -> list[Caption]:
        """One caption a subject."""

    def names(self, requests: Sequence[NameRequest]) -> list[str]:
        """What each subject is called, in a few plain words; empty where the backend knows no name."""
