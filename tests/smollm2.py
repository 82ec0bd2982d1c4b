"""The language model of the captions in tests' scratch folders: to convert it takes half a minute."""

from pathlib import Path

OWN = Path(__file__).parents[1] / ".partgen/models"


def link_model(scratch: Path) -> Path:
    """The scratch folder, which is made if need be, with a link to the model that `make setup` has converted.

    Where nobody has set anything up there is no link, and whoever needs the model converts it.
    """
    (scratch / "models").mkdir(parents=True, exist_ok=True)
    for converted in OWN.resolve().glob("smollm2-*"):
        link = scratch / "models" / converted.name
        if not link.exists():
            link.symlink_to(converted)
    return scratch
