"""Textures as pictures of bounded size: what their headers say is looked at before anything is decoded."""

import io
import warnings as python_warnings

import numpy as np
from PIL import Image

from pipeline.assets.reasons import shortened

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "TGA", "DDS", "AVIF")
"""What is read. Pillow would hand others to programs such as Ghostscript."""
MOST_PIXELS = 1 << 26
"""Of one texture, once a JPEG was decoded at a fraction of its size: 8192 x 8192."""
MOST_PIXELS_TOGETHER = 1 << 29
"""Of all textures of an object: some ten seconds of decoding."""
_OTHERS = {
    b"\xabKTX": "KTX2 (Basis)",
    b"v/1\x01": "EXR",
    b"#?RADIANCE": "HDR",
    b"8BPS": "PSD",
    b"\x00\x00\x00\x0cjP": "JPEG 2000",
    b"version https://git-lfs": "a Git LFS pointer",
}
"""How kinds that are not read begin."""


class Textures:
    """The textures of one object, each read once; `warnings` names those that cannot be."""

    def __init__(self, texture_px: int, warnings: list[str]) -> None:
        self.texture_px, self.warnings = texture_px, warnings
        self._left = MOST_PIXELS_TOGETHER
        self._done: dict[str, Image.Image | None] = {}

    def __call__(self, name: str, data: bytes) -> Image.Image | None:
        """8-bit RGB or RGBA of at most `texture_px` a side, without metadata; None, with a warning, if unreadable."""
        if name not in self._done:
            try:
                self._done[name] = self._read(data)
            # Over broken pictures, Pillow's readers raise whatever comes: struct.error, IndexError, EOFError and more.
            except Exception as error:
                large = isinstance(error, Image.DecompressionBombError)
                why = "too many pixels" if large else str(error) if isinstance(error, _Unread) else _kind(data)
                self.warnings.append(f"unreadable texture {shortened(name)}: {why}; save it as PNG or JPEG")
                self._done[name] = None
        return self._done[name]

    def _read(self, data: bytes) -> Image.Image:
        quietly = python_warnings.catch_warnings(action="ignore")
        with quietly, Image.open(io.BytesIO(data), formats=FORMATS) as image:
            has_alpha = image.has_transparency_data
            image.draft("RGB", (2 * self.texture_px, 2 * self.texture_px))  # JPEG decodes at a fraction of its size
            pixels = image.width * image.height
            if pixels > MOST_PIXELS:
                raise _Unread("too many pixels")
            if pixels > self._left:
                raise _Unread("too many pixels in all textures together")
            self._left -= pixels
            made = _eight_bits(image).convert("RGBA" if has_alpha else "RGB")
        made.thumbnail((self.texture_px, self.texture_px), Image.Resampling.LANCZOS)
        if made.mode == "RGBA" and made.getchannel("A").getextrema()[0] == 255:
            made = made.convert("RGB")
        return Image.fromarray(np.array(made))


class _Unread(Exception):
    """A texture is not decoded, and why."""


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, which Pillow would clip, as 8 bits."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode == "I":  # 16 bits in 32
        return Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "F":
        return Image.fromarray((np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).astype(np.uint8))
    return image


def _kind(data: bytes) -> str:
    """Why a texture cannot be read, in few words."""
    if not data:
        return "an empty file"
    return next((name for start, name in _OTHERS.items() if data.startswith(start)), "truncated, or of no known kind")
