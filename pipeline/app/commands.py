"""What was done to an object, as lines for a shell and for Python, out of the history that its result keeps."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Entry = Mapping[str, Any]
_FIRST = ("decompose", "from-image", "from-text")
DEFAULTS = {
    "seed": 0, "parts": None, "parts_from": "model", "max_parts": None, "close": "none", "surface": "original",
    "samples": 1, "use": 1, "runs": None, "min_part_pixels": None, "seed_point": None, "view": 0, "name": "",
    "turn": None,
}  # fmt: skip
"""What need not be said."""


def shell_lines(history: Sequence[Entry], name: str) -> list[str]:
    """A line an entry, each with the folder that it makes."""
    lines = []
    for number, entry in enumerate(history, start=1):
        before, out = f"results/{name}-{number - 1}", f"results/{name}-{number}"
        words = ["partgen", entry["command"], *_positional(entry, before)]
        for option, value in _options(entry):
            words += [f"--{option.replace('_', '-')}", _plain(value)]
        lines.append(shlex.join([*words, "--out", out]))
    return lines


def python_lines(history: Sequence[Entry]) -> list[str]:
    """The same with the API."""
    lines = ["from partgen import Choice, PartGenPipeline", "", "partgen = PartGenPipeline.from_pretrained()"]
    for entry in history:
        command = entry["command"]
        method = command.replace("-", "_")
        options = dict(_options(entry))
        choice = {key: options.pop(key) for key in list(options) if command in _FIRST and key in _CHOICE}
        first = command in _FIRST
        given = [repr(value) for value in _arguments(entry)] if first else ["result", *map(repr, _arguments(entry))]
        given += [f"Choice({', '.join(f'{key}={value!r}' for key, value in choice.items())})"] if choice else []
        if command == "take-out" and "seed_point" in options:
            x, y = options.pop("seed_point")
            given.append(repr([(x, y, options.pop("view", 0))]))
        given += [f"{key}={tuple(value) if isinstance(value, list) else value!r}" for key, value in options.items()]
        lines.append(f"result = partgen.{method}({', '.join(given)})")
    uses_choice = any("Choice(" in line for line in lines)
    return lines if uses_choice else ["from partgen import PartGenPipeline", *lines[1:]]


_CHOICE = ("samples", "use", "runs", "max_parts", "min_part_pixels", "seed_point", "view")


def _arguments(entry: Entry) -> list[Any]:
    """What comes without a name, after the result."""
    command, origin = entry["command"], entry.get("origin", {})
    if command in ("decompose", "from-image"):
        return [origin.get("file") or "FILE"]
    if command == "from-text":
        return [origin.get("prompt", "")]
    if command == "merge":
        return [list(entry["parts"])]
    if command == "take-out" and "atoms" in entry:
        return []
    if command == "regroup":
        return [] if entry.get("parts") is None else [entry["parts"]]
    words = {"edit": ("part", "prompt"), "split": ("part",), "rename": ("part", "name"), "recolour": ("part", "colour")}
    return [entry[word] for word in words.get(command, ())]


def _positional(entry: Entry, before: str) -> list[str]:
    words = _arguments(entry)
    if entry["command"] in _FIRST:
        return [str(word) for word in words]
    if entry["command"] == "regroup":
        return [before, *(word for value in words for word in ("--parts", str(value)))]
    if entry["command"] == "merge":
        return [before, *words[0]]
    return [before, *(str(word) for word in words)]


def _options(entry: Entry) -> Iterator[tuple[str, Any]]:
    command = entry["command"]
    named: dict[str, Any] = {}
    if command in _FIRST:
        names = ("parts", "parts_from", "max_parts", "close", "surface", "seed")
        named = {key: entry[key] for key in names if key in entry}
        named |= {key: value for key, value in entry.get("choice", {}).items()}
        if command == "decompose" and "choice" in entry:
            named["surface"] = "neural"
    elif command == "take-out":
        point = entry.get("choice", {})
        if entry.get("atoms"):
            named = {"atoms": entry["atoms"]}
        elif point:
            named = {"seed_point": point.get("seed_point"), "view": point.get("view", 0), "seed": entry.get("seed", 0)}
    elif command == "merge":
        named = {"name": entry.get("name", "")}
    elif command == "edit":
        named = {"name": entry.get("name", ""), "seed": entry.get("seed", 0)}
    elif command == "add":
        origin, placed = entry.get("origin", {}), entry.get("placement", {})
        kind = {"object": "object", "image": "image"}.get(origin.get("kind", ""), "text")
        named = {kind: origin.get("prompt") if kind == "text" else origin.get("file") or "FILE"}
        if any(placed.get("offset", ())) or placed.get("scale", 1) != 1:
            named |= {"place": placed.get("offset"), "scale": placed.get("scale")}
        named |= {"turn": entry.get("turn"), "name": entry.get("part", ""), "seed": entry.get("seed", 0)}
    for key, value in named.items():
        if value != DEFAULTS.get(key, ...):
            yield key, value


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
