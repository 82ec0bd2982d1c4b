"""What Table 1 takes for an object's true parts: all of them, and those that the paper counts.

The paper culls parts under 5 % of an object's volume and then leaves out objects of one part or of more than ten,
before anything is trained or measured (main text, 3.5). Where such parts were kept (`assets.small_share`), the second
truth is what Table 1 would be of without them. Their pixels go to the part that they touch: they are in the picture.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.assets.glb import load_parts
from pipeline.assets.parts import Part, merge
from pipeline.assets.surface import Material, Surface

SMALL, MOST = 0.05, 10
"""The paper's: of the object's volume, and parts of an object."""
LARGE = "large parts"
"""The second truth, as the settings of Table 1 name it."""
CONVENTIONS: Mapping[str, str] = {
    LARGE: f"parts under {SMALL:.0%} of the sum of the parts' volumes joined to the part that they touch, the smallest "
    f"first; objects that then have one part, or more than {MOST}, left out, as in the paper; an open part has the "
    "volume of its convex hull",
}


def truths(labels: np.ndarray, glb: bytes) -> dict[str, np.ndarray]:
    """The label maps (H, W) of an object's true parts by what a setting's name ends in: "" for all parts.

    `labels` (H, W) uint8 holds the ids of the parts in the object's normalised `glb`. The second map is missing where
    the paper would have left the object out.
    """
    found = {"": labels}
    parts = [
        Part([_surface(mesh.vertices, mesh.faces) for mesh in part.meshes], [str(part.part_id)], "")
        for part in load_parts(glb)
    ]
    bound = SMALL * sum(part.size("volume") for part in parts)
    large = {part.raw_names[0] for part in parts if part.size("volume") >= bound}
    if 2 <= len(large) <= MOST:
        owner = np.arange(256, dtype=np.uint8)
        for part in merge(parts, lambda left: [one for one in left if large.isdisjoint(one.raw_names)], "volume"):
            members = [int(name) for name in part.raw_names]
            owner[members] = members[0]
        found[f", {LARGE}"] = owner[labels]
    return found


def _surface(vertices: np.ndarray, faces: np.ndarray) -> Surface:
    return Surface(np.asarray(vertices), np.asarray(faces), None, None, None, Material())
