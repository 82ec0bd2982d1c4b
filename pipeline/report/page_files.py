"""The files beside the page: pictures, and models as scripts, which a page that is opened from disk may load."""

import base64
import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.shards.table import encode_png

PICTURE_PX = 512
"""Pictures are shrunk to this many pixels a side."""
STATIC = Path(__file__).parent / "static"


class PageFiles:
    """A new folder for a page. Names of files are the caller's own, never an object's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("pictures", "models"):
            (folder / name).mkdir(parents=True)
        for name in ("three.min.js", "three-LICENSE.txt", "viewer.js", "report.css"):
            (folder / name).write_bytes((STATIC / name).read_bytes())

    def picture(self, name: str, pixels: np.ndarray) -> str:
        """Write pixels (H, W, 3), uint8 or float in [0, 1], as PNG; the address of the picture within the page."""
        values = pixels if pixels.dtype == np.uint8 else (pixels * 255).round().astype(np.uint8)
        if max(values.shape[:2]) > PICTURE_PX:
            image = Image.fromarray(values)
            image.thumbnail((PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS)
            values = np.asarray(image)
        (self.folder / "pictures" / f"{name}.png").write_bytes(encode_png(values))
        return f"pictures/{name}.png"

    def model(self, key: str, glb: bytes) -> str:
        """Write a GLB as models/KEY.js, which hands it to the viewer; the key."""
        text = base64.b64encode(gzip.compress(glb, compresslevel=6, mtime=0)).decode("ascii")
        (self.folder / "models" / f"{key}.js").write_text(f'partgen.receive("{key}", "{text}");\n', encoding="ascii")
        return key
