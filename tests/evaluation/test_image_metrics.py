"""Image metrics against values worked out by hand."""

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.evaluation.image_metrics import SMALLEST_PX, StLpips, ssim
from pipeline.views.psnr import psnr


@pytest.fixture(scope="module")
def distance() -> StLpips:
    return StLpips()


def pictures(count: int = 2, size: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth random ones."""
    coarse = np.random.default_rng(seed).random((count, size // 8, size // 8, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_psnr_of_known_errors() -> None:
    targets = np.full((3, 4, 6, 3), 0.5)
    drawn = targets + np.array([0.1, 0.01, 0.0])[:, None, None, None]
    np.testing.assert_allclose(psnr(drawn, targets), [20.0, 40.0, np.inf])
    assert psnr(drawn[0], targets[0]) == pytest.approx(20.0)


def test_psnr_of_one_channel_is_that_of_a_third_of_the_error() -> None:
    targets = np.zeros((4, 4, 3))
    drawn = targets.copy()
    drawn[..., 1] = 0.1
    assert psnr(drawn, targets) == pytest.approx(-10 * np.log10(0.01 / 3))


def test_psnr_of_the_foreground_ignores_the_rest() -> None:
    targets = np.ones((2, 4, 4, 3))
    drawn, foreground = targets.copy(), np.zeros((2, 4, 4), dtype=bool)
    drawn[0, 0, 0] -= 0.1
    drawn[0, 3, 3] -= 0.5  # background
    foreground[0, 0, :2] = True
    found = psnr(drawn, targets, foreground)
    assert found[0] == pytest.approx(-10 * np.log10(0.01 / 2))
    assert np.isnan(found[1])
    assert psnr(drawn, targets)[0] == pytest.approx(-10 * np.log10((0.01 + 0.25) / 16))


def test_ssim_of_flat_pictures() -> None:
    """Without contrast it is (2 a b + C) / (a a + b b + C) with C = 0.01 squared."""
    dark, light = np.full((1, 16, 16, 3), 0.3), np.full((1, 16, 16, 3), 0.6)
    assert ssim(dark, light)[0] == pytest.approx((2 * 0.18 + 1e-4) / (0.09 + 0.36 + 1e-4))
    some = pictures()
    np.testing.assert_allclose(ssim(some, some), 1.0)
    assert (ssim(some, 1 - some) < 0.1).all()


def test_stlpips_is_that_of_the_package(distance: StLpips) -> None:
    from stlpips_pytorch import stlpips, utils

    one, other = pictures(seed=1), pictures(seed=2)
    theirs = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)  # with its own way to load weights
    expected = [theirs(*(utils.im2tensor(picture[at] * 255) for picture in (one, other))).item() for at in range(2)]
    np.testing.assert_allclose(distance(one, other), expected, rtol=1e-4)
    np.testing.assert_allclose(distance(one, one), 0.0, atol=1e-7)


def test_stlpips_forgives_shifts_and_no_other_picture(distance: StLpips) -> None:
    some = pictures(4, 64)
    shifted = np.roll(some, 1, axis=2)
    assert (distance(shifted, some) < 0.3 * distance(some[::-1], some)).all()


def test_stlpips_refuses_pictures_that_it_cannot_see(distance: StLpips) -> None:
    least = np.zeros((1, SMALLEST_PX, SMALLEST_PX, 3))
    assert distance(least, least) == 0
    with pytest.raises(UserError, match="21 x 22 px; give it at least 22"):
        distance(least[:, :, 1:], least[:, :, 1:])
