"""The table of the evaluation's figures, and the names of what it measures."""

import pyarrow as pa

from pipeline.shards.table import Table

FIGURES = Table(
    "figures",
    1,
    pa.schema(
        [
            ("object_id", pa.string()),
            ("split", pa.string()),
            # segmentation, completion or reassembly: Tables 1, 2 and 3; generation; surface; failures
            ("table", pa.string()),
            ("method", pa.string()),
            # automatic, seeded, both also of large parts; views, 3d; 3d, shape, part shape, overlap; views; A, B, C,
            # closed; views, grouping, depth
            ("setting", pa.string()),
            ("figure", pa.string()),
            ("value", pa.float64()),  # finite: what is not is missing
        ]
    ),
    sort=("table", "method", "setting", "figure"),
)

ASSEMBLED = {
    ("truth", "oracle"): "oracle parts",
    ("truth", "complete"): "true parts",
    ("predicted", "complete"): "predicted parts",
    ("whole", "whole"): "whole",
}
"""What Table 3 calls the source and the method of what was put together again."""
PART123, ALIGNED = "part123", "aligned"
"""That method of Table 1, and the setting of how well its mesh was aligned with the object."""
SAM2_FORMS = {"sam2": "sam2", "sam2-mask-decoder": "sam2_mask_decoder", "sam2-grid": "sam2_grid"}
"""The method of Table 1 whose weights a key of the params gives."""
