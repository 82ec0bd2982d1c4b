"""A sample object, decomposed with the weights that come with PartGen; its parts are listed and saved.

    python examples/decompose.py [OBJECT] [RESULT]

OBJECT is a GLB, glTF, OBJ, PLY or STL file; without it a sample is taken. RESULT is a new
folder, results/example unless given.
"""

import sys
from pathlib import Path

from partgen import PartGenPipeline

SAMPLE = Path(__file__).parents[1] / "data/samples/designChair.glb"


def main(file: Path = SAMPLE, result: Path = Path("results/example")) -> None:
    """Decompose the object in `file`, list its parts, and save all that was made of it into `result`."""
    partgen = PartGenPipeline.from_pretrained()  # data/models once trained, else the weights that come with PartGen
    made = partgen.decompose(file, seed=0)

    print(f"{made.name}: {made.caption}")
    for part in made.parts:
        score = "" if part.score is None else f", in {part.score:.0%} of the segmentations"
        print(f"{part.label:3}  {part.name}: {part.absent or f'{part.triangles} triangles'}{score}")
    for one in made.diagnostics:
        print(f"     look at this: {one.message}")

    print(made.save(result) / "object.glb")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
