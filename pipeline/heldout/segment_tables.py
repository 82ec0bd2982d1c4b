"""Tables of the stage `segment`."""

import pyarrow as pa

from pipeline.shards.table import Table, image_field

RUNS = Table(
    "runs",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("run", pa.int32()),
            ("score", pa.float64()),  # how much the other runs agree with it, in [0, 1]
            image_field("labels"),  # palette PNG of the 2x2 grid: value = reference colour, 0 = background
        ]
    ),
    sort=("run",),
)

PROPOSALS = Table(
    "proposals",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("rank", pa.int32()),  # from 1, the best first; without duplicates
            ("run", pa.int32()),  # the region is where the labels of this run...
            ("label", pa.int32()),  # ...have this value
            ("score", pa.float64()),  # reliability: proposals of all runs that overlap it by more than half
            ("pixels", pa.int64()),
        ]
    ),
    sort=("rank",),
)

PARTS = Table(
    "parts",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("run", pa.int32()),  # the one that the others agree with most
            ("merged", pa.int32()),  # regions that joined another one, for their size or for there being too many
            image_field("labels"),  # palette PNG of the 2x2 grid: value = part id, the largest first; 0 = background
        ]
    ),
)
"""The segmentation that is completed and assembled: it covers the object."""
