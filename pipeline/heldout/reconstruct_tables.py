"""Tables of the stage `reconstruct`.

All have a `source`, whose parts they are, and a `method`, what the parts' grids are:

    truth      oracle                the true grids J of the true parts
    truth      complete, ...         those that a network completed, see `completions/grids`
    truth      none                  what is in sight of the true parts: I * M over white
    predicted  complete              the completed grids of the predicted parts
    whole      whole                 the object's own grid I, reconstructed at once

`label` is of the map that the source names: a part id for truth. 0 is the whole, or all parts together.
"""

import pyarrow as pa

from pipeline.shards.table import Table, image_field

_IDENTITY = [
    ("object_id", pa.string()),
    ("split", pa.string()),
    ("source", pa.string()),
    ("method", pa.string()),
]

VIEWS = Table(
    "views",
    1,
    pa.schema(
        [
            *_IDENTITY,
            ("label", pa.int32()),
            image_field("image"),  # RGB over white, from the four cameras of the object's renders/novel, tiled alike
        ]
    ),
    sort=("source", "method", "label"),
)
"""Of every source and method."""

PARTS = Table(
    "parts",
    1,
    pa.schema(
        [
            *_IDENTITY,
            ("label", pa.int32()),
            ("name", pa.string()),
            ("absent", pa.string()),  # why there is no mesh, else empty
            ("triangles", pa.int64()),
            ("glb", pa.binary()),  # the part alone and in place; empty when it is absent
        ]
    ),
    sort=("source", "method", "label"),
)
"""Of MESHED alone, as `objects`."""

OBJECTS = Table(
    "objects",
    1,
    pa.schema(
        [
            *_IDENTITY,
            ("parts", pa.int32()),  # those that are absent too
            ("absent", pa.int32()),
            ("mean_iou", pa.float64()),  # over the pairs of parts that claim any space
            ("max_iou", pa.float64()),
            ("contested", pa.float64()),  # of the space that parts claim, what two or more of them do
            ("glb", pa.binary()),  # assembled, with named parts; empty when all are absent
        ]
    ),
    sort=("source", "method"),
)

FIELDS = Table(
    "fields",
    1,
    pa.schema([*_IDENTITY, ("label", pa.int32()), ("field", pa.large_binary())]),  # a safetensors file of `Field.save`
    sort=("source", "method", "label"),
)
"""Of KEPT alone."""

AT_ONCE = ("whole", "whole")
PREDICTED = ("predicted", "complete")
MESHED = (("truth", "oracle"), ("truth", "complete"), PREDICTED, AT_ONCE)
KEPT = (PREDICTED, AT_ONCE)
