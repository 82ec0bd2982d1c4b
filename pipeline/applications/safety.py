"""A checker of the user's own, which may refuse a prompt, a picture or a result. None comes with this program, so
nothing is checked until one is given (supplement F).
"""

from collections.abc import Callable
from importlib import import_module
from typing import TypeVar

from PIL import Image

from pipeline.applications.result import PartObject
from pipeline.errors import Invalid, NotFound, UserError

Subject = str | Image.Image | PartObject
Safety = Callable[[Subject], str | None]
"""Given a prompt, a picture before anything is cut out of it (RGB or RGBA), or a finished object before anybody has it:
None where it may pass, else why it may not."""
KINDS = {str: "prompt", Image.Image: "picture", PartObject: "result"}
FUNCTION = "refuse"

SubjectT = TypeVar("SubjectT", bound=Subject)


class Refused(UserError):
    """The safety checker lets a prompt, a picture or a result not pass."""


def find_safety(module: str | None) -> Safety | None:
    """The function `refuse` of an installed module, which is imported; NotFound or Invalid when there is none.

    A module is all that parameters can name, since they may come from a stranger.
    """
    if module is None:
        return None
    try:
        found = getattr(import_module(module), FUNCTION, None)
    except ImportError as error:
        raise NotFound(
            f"applications.safety is `{module}`, which cannot be imported ({error}); install it, or set null."
        ) from None
    if not callable(found):
        raise Invalid(f"applications.safety is `{module}`, which has no function `{FUNCTION}`; write one, or set null.")
    checker: Safety = found
    return checker


def allowed(subject: SubjectT, safety: Safety | None) -> SubjectT:
    """The same; Refused when the checker's answer is anything but None, so that a mistaken one lets nothing through."""
    reason = safety(subject) if safety else None
    if reason is not None:
        kind = next(word for known, word in KINDS.items() if isinstance(subject, known))
        raise Refused(f"The safety checker refuses this {kind}: {reason}. Change it, or ask who set the checker up.")
    return subject
