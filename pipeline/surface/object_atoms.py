"""An object's atoms as the stage `atoms` keeps them, and which part each is of.

An object of the tables has its true parts as nodes. They are taken off, and what is left is seen in three ways: `A` as
modelled, with its materials, `B` as if it had one baked texture, without, and `C` fused into one watertight skin.

Shape suffixes: N atoms, S true parts, P predicted ones, H W pixels of the 2x2 grid.
"""

from dataclasses import dataclass, fields
from typing import Literal, Self, get_args

import numpy as np
import pyarrow as pa
from safetensors.numpy import load, save

from pipeline.shards.table import Table
from pipeline.surface.features import AtomFeatures

Regime = Literal["A", "B", "C"]
"""What is known of an object but for its part names: pieces and materials; pieces alone; one skin and its colours."""
REGIMES: tuple[Regime, ...] = get_args(Regime)

ATOMS = Table(
    "atoms",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("regime", pa.string()),  # A, B or C
            ("count", pa.int32()),  # of atoms
            ("arrays", pa.binary()),  # safetensors, as of ObjectAtoms
        ]
    ),
    sort=("regime",),
)

SURFACES = Table(
    "surfaces",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("regime", pa.string()),
            ("glb", pa.binary()),  # a node a piece; of regime B none: it has the surface of A
            ("atom", pa.binary()),  # uint8: the atom of every triangle of the GLB, from 0
            ("part", pa.binary()),  # uint8: its true part, from 1
        ]
    ),
    sort=("regime",),
)
"""Where the atoms lie on the surface; of training objects nothing is kept."""


@dataclass(frozen=True)
class ObjectAtoms:
    """The atoms of an object whose part names were taken off; N atoms, S true parts."""

    features: AtomFeatures
    truth_NS: np.ndarray
    """float32: the area of each true part on each atom."""
    material_N: np.ndarray
    """int32: the material of most of each atom, as a number; what regime `A` alone tells."""
    pieces_PS: np.ndarray
    """float32: as `truth_NS`, of the pieces (of one material in regime `A`) before colours divide them; none in `C`."""
    clustered_PS: np.ndarray
    linked_PS: np.ndarray
    """float32: as `truth_NS`, of the parts P that K-means and a linkage of superfaces find; none but of regime `C`."""
    seen_HW: np.ndarray
    """uint8: which atom, from 1, each pixel of the 2x2 grid shows; 0 the background."""

    def packed(self) -> bytes:
        """As safetensors, features in half precision."""
        half = {name: value.astype(np.float16) for name, value in vars(self.features).items()}
        others = {name: value for name, value in vars(self).items() if name != "features"}
        return save({**half, **others})

    @classmethod
    def unpacked(cls, content: bytes) -> Self:
        """What `packed` gave."""
        arrays = load(content)
        features = {field.name: arrays[field.name].astype(np.float32) for field in fields(AtomFeatures)}
        others = {field.name: arrays[field.name] for field in fields(cls) if field.name != "features"}
        return cls(AtomFeatures(**features), **others)
