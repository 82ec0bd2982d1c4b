"""A parameter that is a program of the user's, which this one starts."""

import re
from collections.abc import Collection
from typing import Annotated

from pydantic import AfterValidator, Field

PLACE = re.compile(r"\{(\w+)\}")
"""Stands in a word of a command for what is put there; braces around anything else are left as they are."""

Command = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
"""A program and its arguments, word by word; no shell takes part, unless it is the program."""


def check_places(command: Collection[str], known: Collection[str], needed: Collection[str] = ()) -> None:
    """ValueError when the command has a placeholder that is not `known`, or lacks one that is `needed`."""
    found = {name for word in command for name in PLACE.findall(word)}
    named = ", ".join(f"{{{name}}}" for name in known)
    for name in sorted(found - set(known)):
        raise ValueError(f"nothing is put at {{{name}}}; give {named}")
    for name in needed:
        if name not in found:
            raise ValueError(f"it lacks {{{name}}}; there are {named}")


def with_places(known: Collection[str], needed: Collection[str]) -> AfterValidator:
    """Of a parameter that is a `Command`: it is checked as by `check_places`."""

    def checked(command: Command) -> Command:
        check_places(command, known, needed)
        return command

    return AfterValidator(checked)
