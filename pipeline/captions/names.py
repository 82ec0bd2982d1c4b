"""Artists' names as words of a sentence."""

import re
import unicodedata

from pipeline.captions.backend import Subject

NAMELESS = "part"
"""What a part is called when its name says nothing."""
MOST_WORDS = 6

_WORD = re.compile(r"[^\W\d_]{2,}(?:['’-][^\W\d_]+)*")


def spoken(name: str) -> str:
    """The words of a name, without numbers, markup, quotes, slashes and emoji; empty when nothing is left.

    `leg 2` -> `leg`, `<b>Left "arm"/rest</b>` -> `left arm rest`. At most MOST_WORDS words of 24 letters.
    """
    words = [word[:24] for word in _WORD.findall(_letters(unicodedata.normalize("NFKC", name), " "))]
    return " ".join([word if word.isupper() else _letters(word.lower(), "") for word in words][:MOST_WORDS])


def _letters(text: str, other: str) -> str:
    """The letters, apostrophes and hyphens of `text`, with `other` for the rest, numerals of all scripts included."""
    return "".join(character if character.isalpha() or character in "'’-" else other for character in text)


def part_words(subject: Subject) -> str:
    """What the part is called in a caption; `part` also where it has no more of a name than the object."""
    words = spoken(subject.part_name or "")
    return words if set(words.split()) - set(object_words(subject).split()) else NAMELESS


def object_words(subject: Subject) -> str:
    """What the whole object is called in a caption; its category helps out where the name says nothing."""
    category = spoken(subject.category)
    return spoken(subject.object_name) or (f"{category} object" if category else "object")


def with_article(noun: str) -> str:
    """`a chair`, `an oak table`; plurals stay bare."""
    if noun.endswith("s") and not noun.endswith(("ss", "us", "is")):
        return noun
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
