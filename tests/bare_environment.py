"""An environment that has some installed packages, what they require, and no others."""

import importlib.metadata
import sys
from pathlib import Path

from packaging.requirements import Requirement


def link_packages(site: Path, names: tuple[str, ...]) -> set[str]:
    """Link the packages and their requirements into the folder `site`; the names of all of them."""
    found: dict[str, importlib.metadata.Distribution] = {}
    pending = list(names)
    while pending:
        name = pending.pop().lower().replace("_", "-")
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        requirements = map(Requirement, found[name].requires or ())
        pending += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    site.mkdir()
    for distribution in found.values():
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))).absolute())
    return set(found)


def bare_python() -> list[str]:
    """Python without any installed packages but those that PYTHONPATH leads to."""
    return [sys.executable, "-S", "-s", "-B"]
