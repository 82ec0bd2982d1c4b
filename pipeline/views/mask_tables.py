"""Tables of the stage `masks`."""

import pyarrow as pa

from pipeline.shards.table import Table, image_field

LABELS = Table(
    "labels",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            image_field("labels"),  # palette PNG of the 2x2 grid: value = part id, 0 = background
            ("silhouette_iou", pa.float64()),  # agreement with the alpha of renders/grids, see silhouette_iou()
        ]
    ),
)

VISIBILITY = Table(
    "visibility",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("part_id", pa.int32()),
            ("pixels", pa.list_(pa.int32())),  # in the order of the grid's views
        ]
    ),
    sort=("part_id",),
)
