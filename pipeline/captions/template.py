"""Captions without a language model: of a view, and of a subject."""

import re
from collections import Counter

from pipeline.captions.backend import Caption, Subject, UnifyRequest
from pipeline.captions.colours import COLOUR_WORDS, COLOURS, SHADES
from pipeline.captions.names import NAMELESS, object_words, part_words, spoken, with_article

TEMPLATE = "template"
"""What wrote such a caption."""
MOST_LISTED = 3

_VIEW_CLAUSE = re.compile(r", on the (?:left|right) in this view(?=\.$)")
_FIRST_COLOUR = re.compile(rf"(?:The|An?) ({'|'.join(sorted(COLOURS, key=len, reverse=True))})\b")


def sentence(subject: Subject, colour: str = "") -> str:
    """The plain caption of a subject, such as `The brown leg at the bottom front of an oak table.`

    Of a whole object: `A brown oak table with leg and top.` A colour in the name is the artist's, and `colour` is left
    out then.
    """
    thing = object_words(subject)
    name = thing if subject.part_name is None else part_words(subject)
    if (COLOUR_WORDS - SHADES) & set(name.lower().split()):
        colour = ""
    if subject.part_name is not None:
        words = ["the", colour, name, subject.place, "of", with_article(thing)]
    else:
        words = [with_article(f"{colour} {thing}".strip()), _listed(subject)]
    text = " ".join(word for word in words if word)
    return f"{text[0].upper()}{text[1:]}."


def _listed(subject: Subject) -> str:
    """`with seat, back and legs`: the parts whose names add something to the object's."""
    known = set(object_words(subject).split())
    names = dict.fromkeys(spoken(name) for name in subject.siblings)
    told = [name for name in names if name and name != NAMELESS and not set(name.split()) <= known][:MOST_LISTED]
    if not told:
        return ""
    return "with " + (f"{', '.join(told[:-1])} and {told[-1]}" if len(told) > 1 else told[0])


def plain_name(subject: Subject, caption: str) -> str:
    """What a nameless part can be called by one who does not know what it is: `brown top part`.

    By the first colour of its caption, where that begins with one, and its place. Of a whole object, what it is called
    in captions.
    """
    if subject.part_name is None:
        return object_words(subject)
    colour = _FIRST_COLOUR.match(caption)
    place = subject.place.removeprefix("at the ").removeprefix("on the ")
    return " ".join(word for word in (colour[1] if colour else "", place, part_words(subject)) if word)


def in_this_view(text: str, side: str) -> str:
    """A sentence with a clause that holds for one view alone: `side` is `on the left`, `on the right` or empty."""
    return f"{text.removesuffix('.')}, {side} in this view." if side else text


def notes(request: UnifyRequest) -> list[str]:
    """The view captions without what holds for one view alone."""
    return [_VIEW_CLAUSE.sub("", text) for text in request.views]


def template(request: UnifyRequest) -> Caption:
    """The commonest note (the first of equals); without views, what the names and the place say."""
    if not request.views:
        return Caption(sentence(request.subject), TEMPLATE)
    return Caption(Counter(notes(request)).most_common(1)[0][0], TEMPLATE)
