"""Tables of the stage `generate`."""

import pyarrow as pa

from pipeline.shards.table import Table, image_field

FROM_TEXT, FROM_IMAGE = "text_to_mv", "image_to_mv"

GENERATIONS = Table(
    "grids",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("method", pa.string()),  # the network
            ("prompt", pa.string()),  # the object's caption; empty where a view was given
            image_field("image"),  # RGB over white, the 2x2 grid I
        ]
    ),
    sort=("method",),
)

PROMPTS = Table(
    "prompts",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),  # its place among `generate.prompts`
            ("prompt", pa.string()),
            image_field("image"),  # as above, by the network FROM_TEXT
        ]
    ),
)
