"""Tables of the stage `captions`."""

import pyarrow as pa

from pipeline.shards.table import Table, image_field

VIEWS = Table(
    "views",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("part_id", pa.int32()),  # 0: the whole object
            ("view", pa.int32()),  # 0..3, in the order of the grid
            image_field("prompt"),  # RGB, the view with the part circled in red; of a whole object the plain view
            ("caption", pa.string()),
            ("backend", pa.string()),  # what wrote the caption
        ]
    ),
    sort=("part_id", "view"),
)

CAPTIONS = Table(
    "captions",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            ("part_id", pa.int32()),  # 0: the whole object
            ("name", pa.string()),  # the artist's, of the part or the object
            ("caption", pa.string()),
            ("backend", pa.string()),  # such as `smollm2-135m`, `template`, `openai/MODEL`
            ("views", pa.int32()),  # how many view captions it unifies; 0: in sight in no view, worded from its name
        ]
    ),
    sort=("part_id",),
)
