"""The project's folder, and what is used in any other: presets, weights and samples that come with it, a cache.

Only the stages need a project. The applications work anywhere, also where this program was installed from a wheel.
"""

import os
from pathlib import Path

from pipeline.errors import NotFound, UserError, nearest

SHIPPED = Path(__file__).parents[1]
"""Holds `presets`, `weights/nano` and `data/samples`: the repository, or where pip has put them beside this package."""
PRESETS, MODELS, WEIGHTS = Path("presets"), Path("data/models"), Path("weights/nano")
"""In a project; the models are those that were trained in it."""
_MARKS = {"params.yaml": "\nreconstruct:", "dvc.yaml": "python -m stages."}
"""What stands in these files of a project of this program, and not in those of others that use DVC."""


def in_project() -> bool:
    """Whether the current folder is a project of this program."""
    return any(mark in _text(Path(name)) for name, mark in _MARKS.items())


def default_params() -> Path:
    """The project's params.yaml; elsewhere the preset `nano`."""
    return Path("params.yaml") if in_project() else SHIPPED / PRESETS / "nano.yaml"


def default_models() -> Path:
    """What was trained in the project, else its `weights/nano`; elsewhere those that come with this program."""
    mine = [folder for folder in (MODELS, WEIGHTS) if in_project() and folder.is_dir()]
    return mine[0] if mine else SHIPPED / WEIGHTS


def find_models(folder: str | Path | None) -> Path:
    """That folder of models, or the default; UserError when it is not there."""
    found = Path(folder) if folder else default_models()
    if not found.is_dir():
        raise NotFound(f"There is no folder {found} of models; `partgen run` trains them.")
    return found


def find_preset(name: str) -> Path:
    """A preset of the project, or of those that come with this program; UserError that lists them for another name."""
    folders = (SHIPPED / PRESETS, *([PRESETS] if in_project() else []))
    known = {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
    if name not in known:
        raise NotFound(f"There is no preset `{name}`{nearest(name, known)}; the presets are {', '.join(known)}.")
    return known[name]


def cache() -> Path:
    """The user's folder for what can be made again; UserError for a user without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "partgen"
    except RuntimeError:
        raise UserError("This user has no home folder to keep things in; export PARTGEN_SCRATCH=FOLDER.") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
