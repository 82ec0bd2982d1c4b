"""What vision-language models are asked, and what passes for an answer."""

import re

from pipeline.captions.backend import NameRequest, Subject, UnifyRequest
from pipeline.captions.names import NAMELESS, object_words, part_words, with_article
from pipeline.captions.names import spoken as words_of
from pipeline.errors import ObjectFailed

TOLERANCE = 2
"""Models do not count well: an answer may have this many times the words that it was asked to have at most."""
TOKENS_PER_WORD = 4
"""Room for an answer, so that one that is much too long is seen to be."""
NAME_WORDS = 3
"""Words that a name should have at most."""

_QUOTES = "\"'“”‘’`*"


def view_question(subject: Subject, max_words: int) -> str:
    """The question that goes with a prompt picture."""
    thing = _object_phrase(subject)
    limit = f"in one sentence of at most {max_words} words. Answer with that sentence only."
    if subject.part_name is None:
        return f"The picture shows {thing}. Describe its shape, colours and materials {limit}"
    name = part_words(subject)
    hint = "" if name == NAMELESS else f", which its maker called '{name}'"
    return (
        f"The picture shows {thing}. One of its parts{hint}, is marked by a red circle, and all else is dimmed. "
        f"Say what this part is, and describe its shape, colour and material, {limit} Do not mention the circle."
    )


def summary_question(request: UnifyRequest, max_words: int) -> str:
    """The question that unifies the captions of the views."""
    thing = _object_phrase(request.subject)
    of_what = thing if request.subject.part_name is None else f"one part of {thing}"
    captions = "\n".join(f"- {caption}" for caption in request.views)
    return (
        f"These captions describe {of_what}, seen from several sides:\n{captions}\nSummarise them in one sentence of "
        f"at most {max_words} words, and leave out where they contradict each other. Answer with that sentence only."
    )


def name_question(request: NameRequest) -> str:
    """The question for the name of what nobody has named yet."""
    what = "An object" if request.subject.part_name is None else f"A part of {_object_phrase(request.subject)}"
    return (
        f"{what} is described as follows:\n{request.caption}\nWhat is it called? Answer with its name only, a noun of "
        f"at most {NAME_WORDS} words, without an article."
    )


def read_name(answer: str) -> str:
    """The words of a name in an answer; empty when there are none, or so many that it is no name."""
    name = re.sub(r"^(?:an?|the) ", "", words_of(answer))
    return name if len(answer.split()) <= TOLERANCE * NAME_WORDS else ""


def read_answer(text: str, source: str, max_words: int) -> str:
    """The caption in an answer: one line, without quotation marks. ObjectFailed when it is empty or far too long."""
    caption = re.sub(r"\s+", " ", text).strip(f" {_QUOTES}")
    count = len(caption.split())
    if not re.search(r"\w", caption):
        raise ObjectFailed(f"{source} gave an empty answer: {text[:80]!r}")
    if count > TOLERANCE * max_words:
        raise ObjectFailed(f"{source} answered with {count} words, asked for at most {max_words}: {caption[:80]!r}...")
    return caption


def _object_phrase(subject: Subject) -> str:
    category = words_of(subject.category)
    return with_article(object_words(subject)) + (f" (category: {category})" if category else "")
