"""Tables of the stage `render`. All images are PNGs, RGBA with straight alpha."""

import pyarrow as pa

from pipeline.shards.table import Table, image_field

GRIDS = Table(
    "grids",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("part_id", pa.int32()),  # 0: the whole object, the grid I; k: part k alone from the same cameras, J^k
            image_field("image"),  # 2x2 grid
        ]
    ),
    sort=("part_id",),
)

NOVEL = Table(
    "novel",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("part_id", pa.int32()),  # as in `grids`; the cameras of the whole and of its parts are the same
            ("azimuths", pa.list_(pa.float32())),  # degrees, four
            ("elevations", pa.list_(pa.float32())),
            image_field("image"),  # the four random views, tiled as a 2x2 grid
        ]
    ),
    sort=("part_id",),
)

CONDITIONING = Table(
    "conditioning",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("view", pa.int32()),
            ("azimuth", pa.float32()),  # degrees
            ("elevation", pa.float32()),
            image_field("image"),  # one view of the whole object
        ]
    ),
    sort=("view",),
)

GIVEN_VIEW = 0
"""Of `conditioning`, the view that a network of pictures is given of a held-out object."""
