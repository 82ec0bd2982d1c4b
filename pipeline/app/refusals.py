"""What a request is refused with: a status of HTTP and one sentence."""

import errno

from pipeline.errors import FULL, Invalid, NotFound, UserError, refused, system_fault


class Refusal(Exception):
    """An answer that is an error: a status, one sentence, and what else the answer holds."""

    def __init__(self, status: int, sentence: str, **more: object) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.more = status, sentence, more

    @property
    def document(self) -> dict[str, object]:
        """The answer's JSON."""
        return {"error": self.sentence, **self.more}


def as_refusal(error: Exception) -> Refusal:
    """The refusal that an error means; 500 for a mistake of this program."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, NotFound):
        return Refusal(404, str(error))
    if isinstance(error, Invalid | UserError):
        return Refusal(400, str(error))
    fault = system_fault(error)
    if fault is not None:
        return Refusal(507 if fault.errno in (*FULL, errno.EFBIG) else 500, f"{refused(fault)}.")
    return Refusal(500, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
