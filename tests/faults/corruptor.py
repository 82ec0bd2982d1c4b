"""Damage to one file, at places that a seed decides."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUN = 64
"""Bytes that `zeros` and `garbage` replace."""


def corrupt(path: Path, how: str, seed: int) -> bool:
    """Damage the file in place; False when this kind of damage leaves it as it is."""
    data, chance = path.read_bytes(), random.Random(f"{how} {seed}")
    damaged = DAMAGES[how](data, chance)
    path.chmod(0o644)
    path.write_bytes(damaged)
    return damaged != data


def _flip(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return data
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def _truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))] if data else data


def _zeros(data: bytes, chance: random.Random) -> bytes:
    return _over(data, bytes(RUN), chance)


def _garbage(data: bytes, chance: random.Random) -> bytes:
    return _over(data, chance.randbytes(RUN), chance)


def _over(data: bytes, new: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(max(1, len(data) - RUN))
    return (data[:place] + new + data[place + RUN :])[: len(data)]


def _json_value(data: bytes, chance: random.Random) -> bytes:
    """Another number, text or type somewhere in valid JSON."""
    try:
        values = json.loads(data)
    except ValueError:
        return data
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in pairs:
            places.append((value, key))
            visit(inner)

    visit(values)
    if not places:
        return data
    holder, key = chance.choice(places)
    holder[key] = chance.choice([None, -1, 2**70, 1e308, "", "../../x", [], {}, True, [[]] * 3])
    return json.dumps(values).encode()


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": _flip,
    "truncate": _truncate,
    "zeros": _zeros,
    "empty": lambda data, chance: b"",
    "garbage": _garbage,
    "json": _json_value,
}
