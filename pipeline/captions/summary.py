"""One caption from a subject's view captions, worded by SmolLM2 and checked, or by the plain template."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.captions.backend import Caption, UnifyRequest
from pipeline.captions.colours import COLOUR_WORDS
from pipeline.captions.names import object_words, part_words
from pipeline.captions.places import PLACE_WORDS
from pipeline.captions.smollm2 import NAME, Message, SmolLM2, weights
from pipeline.captions.template import notes, template

_FUNCTION_WORDS = frozenset(["a", "an", "and", "at", "has", "in", "is", "it", "its", "of", "on", "the", "to", "with"])
_MAX_TOKENS = 40

_EXAMPLES = (
    (
        "The black wheel at the bottom front of a toy car.\nThe dark grey wheel at the bottom front of a toy car.",
        "The black wheel at the bottom front of a toy car.",
    ),
    ("A white teapot with body, lid and spout.", "A white teapot with a body, a lid and a spout."),
    ("The light brown curtain rail at the top of a window.", "The light brown curtain rail at the top of a window."),
    ("A red and white tent with poles.\nA red tent with poles.", "A red and white tent with poles."),
    ("The yellow knobs of a kitchen cabinet.", "The yellow knobs of a kitchen cabinet."),
)


class Summarizer:
    """Words unified captions; loads the model, from `models`, once."""

    def __init__(self, models: Path, max_words: int) -> None:
        chat: list[Message] = [{"role": "system", "content": "Merge the notes on one thing into one caption."}]
        for question, answer in _EXAMPLES:
            chat += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        self.model = SmolLM2(weights(models), chat)
        self.max_words = max_words

    def __call__(self, requests: Sequence[UnifyRequest]) -> list[Caption]:
        """One caption a request: the model's where nothing is to be said against it, else the template's."""
        questions = ["\n".join(dict.fromkeys(notes(request))) for request in requests]
        plain = [template(request) for request in requests]
        answers = self.model.answer(questions, [caption.text for caption in plain], _MAX_TOKENS)
        return [
            Caption(answer, NAME) if objection(answer, request, self.max_words) is None else caption
            for answer, request, caption in zip(answers, requests, plain, strict=True)
        ]


def objection(text: str, request: UnifyRequest, max_words: int) -> str | None:
    """Why `text` is no caption of the subject, in a few words; None when it is one.

    It must be one sentence of at most `max_words` words that names the object, and the part if it is about one, tells
    only colours and places that a note tells, and has no word, however often, that none of the notes has as often.
    """
    subject = request.subject
    words = Counter(_words(text))
    told: Counter[str] = Counter()
    for note in notes(request):
        told |= Counter(_words(note))
    names = [object_words(subject)] if subject.part_name is None else [object_words(subject), part_words(subject)]
    if not re.fullmatch(r"[^\W\d_][^.!?\n]*\.", text) or words.total() > max_words:
        return "not one short sentence"
    if not all(" ".join(_words(name)) in " ".join(_words(text)) for name in names):
        return "does not name it"
    added = {word for word in words - told if word not in _FUNCTION_WORDS}
    if added & COLOUR_WORDS:
        return "another colour"
    if added & PLACE_WORDS:
        return "another place"
    return "tells more than the notes" if added else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())
