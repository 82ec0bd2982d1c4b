"""Tables: an explicit schema with a version, and images in the Hugging Face layout."""

import io
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image

IMAGE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How `datasets` stores an image: encoded bytes and a name."""
WHOLE = 0
"""The part id, or label, of the whole object and of all parts together."""


@dataclass(frozen=True)
class Table:
    """One table of a stage: a folder of Parquet shards under the stage's output.

    The first column is always `object_id`; `sort` orders the rows of one object.
    """

    name: str
    version: int
    schema: pa.Schema
    sort: tuple[str, ...] = ()

    def storage_schema(self) -> pa.Schema:
        """The schema with the `huggingface` metadata, from which `datasets` knows which columns are images."""
        features = {field.name: _feature(field.type) for field in self.schema}
        info = json.dumps({"info": {"features": features}}, sort_keys=True)
        return self.schema.with_metadata({"huggingface": info, "partgen": f"{self.name}/{self.version}"})


FAILURES = Table("failures", 2, pa.schema([("object_id", pa.string()), ("kind", pa.string()), ("reason", pa.string())]))
"""Objects that a stage could not process, each with its reason; every stage writes this table.

The kind is `object` when the object fails by itself; `memory`, `timeout` or `killed` when it was tried twice, the
second time alone, and a larger or faster machine might have finished it.
"""


def empty_table(table: Table) -> pa.Table:
    """No rows. (pyarrow's own `empty_table` imports pandas, longer than reusing a stage's finished work.)"""
    return pa.Table.from_batches([], schema=table.storage_schema())


def image_field(name: str) -> pa.Field:
    """A column of PNG images."""
    return pa.field(name, IMAGE_TYPE)


def image_cell(png: bytes, path: str) -> dict[str, bytes | str]:
    """The value of an image column; `path` is a file name such as `grid.png` for those who export it."""
    return {"bytes": png, "path": path}


def encode_png(pixels: np.ndarray, palette: np.ndarray | None = None) -> bytes:
    """PNG bytes without metadata, the same for the same pixels.

    `pixels`: uint8, (H, W), (H, W, 3) or (H, W, 4) with straight alpha. With `palette` (uint8, (K, 3)), `pixels` is an
    (H, W) map of indices and the PNG is of mode P.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        image.putpalette(palette.astype(np.uint8).tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def decode_png(png: bytes) -> np.ndarray:
    """The pixels of a PNG, uint8; a palette image gives its indices."""
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image)


def _feature(kind: pa.DataType) -> dict[str, object]:
    if kind == IMAGE_TYPE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    name = {"double": "float64", "float": "float32"}.get(str(kind), str(kind))
    return {"dtype": name, "_type": "Value"}
