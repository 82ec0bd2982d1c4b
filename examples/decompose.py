"""An object taken apart, saved, read again, and one of its parts drawn anew after a text: the public API in one script.

    python examples/decompose.py [OBJECT] [FOLDER]

OBJECT is a GLB, glTF, OBJ, PLY or STL file; without it a sample is taken. FOLDER, results/example unless given, gets
two new results, `parts` and `edited`.
"""

import sys
from pathlib import Path
from typing import Any

from partgen import PartGenPipeline, PartObject, UserError

SAMPLE = Path(__file__).parents[1] / "data/samples/designChair.glb"


def main(file: Path = SAMPLE, folder: Path = Path("results/example"), **settings: Any) -> None:
    """Take the object in `file` apart and edit its last part.

    `settings` are those of `PartGenPipeline.from_pretrained`. UserError for a file that cannot be read, and for a
    result that is there already.
    """
    partgen = PartGenPipeline.from_pretrained(**settings)  # data/models once trained, else the weights that come along
    made = partgen.decompose(file, seed=0)
    describe(made)
    made.save(folder / "parts")

    again = PartObject.load(folder / "parts")  # a folder has all that an edit starts from, on any machine
    smallest = again.parts[-1]
    edited = partgen.edit(again, smallest.name, "a red cushion", name="cushion", seed=1)
    describe(edited)
    print(partgen.animated(edited).save(folder / "edited") / "object.glb")


def describe(made: PartObject) -> None:
    """Print an object's parts, the largest first, whose work it is, and what deserves a look."""
    print(f"{made.name}: {made.caption}")
    for part in made.parts:
        surface = "the file's own surface" if part.original else "reconstructed"
        print(f"{part.label:3}  {part.name}: {part.absent or f'{part.triangles} triangles, {surface}'}")
    print(f"     {made.notice}")
    for one in made.diagnostics:
        print(f"     look at this: {one.message}")


if __name__ == "__main__":
    try:
        main(*map(Path, sys.argv[1:3]))
    except UserError as error:  # one sentence: what is wrong, and what to do
        sys.exit(str(error))
