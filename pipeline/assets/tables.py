"""The tables that the stage assets makes."""

import pyarrow as pa

from pipeline.shards.table import Table

OBJECTS = Table(
    "objects",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),  # train, val or test
            ("name", pa.string()),
            ("name_group", pa.string()),
            ("category", pa.string()),
            ("source", pa.string()),
            ("origin", pa.string()),
            ("licence", pa.string()),
            ("author", pa.string()),
            ("status", pa.string()),  # ok or dropped
            ("reason", pa.string()),  # why it was dropped, else empty
            ("part_count", pa.int32()),
            ("part_rule", pa.string()),  # nodes, materials, merged, components; undivided: part_count is 1
            ("pieces_found", pa.int32()),  # before small ones were merged or culled
            ("culled_surface", pa.float32()),  # share of the surface
            ("triangles", pa.int32()),
            ("textures", pa.int32()),
            ("glb_bytes", pa.int64()),
            ("warnings", pa.list_(pa.string())),
        ]
    ),
)
"""Every object that the sources gave, kept or dropped."""

PARTS = Table(
    "parts",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("part_id", pa.int32()),  # 1..S, the largest surface first
            ("name", pa.string()),
            ("raw_names", pa.list_(pa.string())),
            ("surface", pa.float32()),  # share of the object's surface
            ("volume", pa.float32()),  # share of the sum of the parts' volumes
            ("volume_method", pa.string()),  # mesh, hull or flat
            ("triangles", pa.int32()),
            ("materials", pa.int32()),
        ]
    ),
    sort=("part_id",),
)
"""The parts of the objects that are kept; an undivided one has no row."""

GLBS = Table(
    "glbs",
    1,
    pa.schema([("object_id", pa.string()), ("split", pa.string()), ("glb", pa.binary())]),
)
"""Normalised GLBs, see `pipeline.assets.glb`."""
