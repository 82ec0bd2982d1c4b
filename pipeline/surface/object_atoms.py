"""An object's atoms as the stage `atoms` keeps them, and which part each is of.

An object of the tables has its true parts as nodes. They are taken off, and what is left is seen in two ways: `A` as
modelled, with its materials, and `B` as if it had one baked texture, without.
"""

from dataclasses import dataclass, fields
from typing import Literal, Self, get_args

import numpy as np
import pyarrow as pa
from safetensors.numpy import load, save

from pipeline.shards.table import Table
from pipeline.surface.features import AtomFeatures

Regime = Literal["A", "B"]
"""What is known of an object but for its part names: pieces and materials, or pieces alone."""
REGIMES: tuple[Regime, ...] = get_args(Regime)

ATOMS = Table(
    "atoms",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("regime", pa.string()),  # A or B
            ("count", pa.int32()),  # of atoms
            ("arrays", pa.binary()),  # safetensors, as of ObjectAtoms
        ]
    ),
    sort=("regime",),
)


@dataclass(frozen=True)
class ObjectAtoms:
    """The atoms of an object whose part names were taken off; N atoms, S true parts."""

    features: AtomFeatures
    truth_NS: np.ndarray
    """float32: the area of each true part on each atom."""
    material_N: np.ndarray
    """int32: the material of most of each atom, as a number; what regime `A` alone tells."""
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
        return cls(AtomFeatures(**features), arrays["truth_NS"], arrays["material_N"], arrays["seen_HW"])
