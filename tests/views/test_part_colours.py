"""Part colours: coding and decoding agree, and colours are told apart."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from pipeline.errors import UserError
from pipeline.views.part_colours import (
    COLOURS,
    assignment,
    by_appearance,
    colour_code,
    decode_colours,
    drop_small,
    reference_colours,
)


@given(colours=st.integers(2, 20), seed=st.integers(0, 2**16))
def test_coded_labels_decode_to_the_colours_of_their_parts(colours: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(colours + 1, (2, 3, 6, 4), generator=generator)
    permutation = torch.randperm(colours, generator=generator) + 1
    images = colour_code(labels, permutation)
    assert images.shape == (2, 3, 3, 6, 4)
    decoded = decode_colours(images, colours)
    assert decoded.dtype == torch.int64
    assert torch.equal(decoded, torch.cat((torch.zeros(1, dtype=torch.long), permutation))[labels])


def test_part_k_has_the_colour_that_the_permutation_names() -> None:
    image = colour_code(torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8), torch.tensor([3, 1, 2]))
    colours = reference_colours(3)
    assert torch.equal(image[:, 0, 0], torch.ones(3))
    assert torch.equal(image[:, 0, 1], colours[3])
    assert torch.equal(image[:, 1, 0], colours[1])
    assert torch.equal(image[:, 1, 1], colours[2])


def test_by_appearance_a_part_gets_the_colour_nearest_to_its_own_and_none_twice() -> None:
    colours = reference_colours(10)
    labels = torch.tensor([[0, 1, 1, 2], [3, 3, 3, 3]])
    near = colours.new_tensor([[1.0, 1.0, 1.0], *(0.9 * colours[[4, 7, 2]] + 0.05).tolist()])
    image = near[labels].permute(2, 0, 1)
    permutation = by_appearance(labels, image, 10)
    assert sorted(permutation.tolist()) == list(range(1, 11))
    assert permutation[:3].tolist() == [4, 7, 2]
    alike = by_appearance(labels, colours[torch.where(labels > 0, 5, 0)].permute(2, 0, 1), 10)
    assert alike[2] == 5  # the part with the most pixels
    assert len(set(alike.tolist())) == 10


def test_a_pixel_decodes_to_the_nearest_colour() -> None:
    pixels = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    nearest = torch.cdist(pixels.flatten(1).T, reference_colours(10)).argmin(dim=1).view(20, 20)
    assert torch.equal(decode_colours(pixels, 10), nearest)


def test_reference_colours_are_far_apart_and_the_first_ten_from_what_is_between() -> None:
    for count, least in ((10, 0.57), (20, 0.42)):
        colours = reference_colours(count)
        apart = torch.cdist(colours, colours) + torch.eye(count + 1) * 9
        assert apart.min() > least
    # An edge of a part against the background: until it is half white it is nearer to its own colour than to a third.
    colours = reference_colours(10)
    for part in range(1, 11):
        for share in (0.25, 0.5):
            mixed = share * colours[0] + (1 - share) * colours[part]
            distances = (colours - mixed).norm(dim=1)
            others = torch.cat((distances[1:part], distances[part + 1 :]))
            assert others.min() > distances[part] - 0.01, (part, share)


def test_more_parts_than_colours_and_more_colours_than_there_are() -> None:
    with pytest.raises(UserError, match=r"4 parts.*colours \(3\).*raise diffusion.colours"):
        colour_code(torch.tensor([[0, 4]]), torch.tensor([1, 2, 3]))
    with pytest.raises(UserError, match=rf"{len(COLOURS)} part colours.*1 to {len(COLOURS) - 1}"):
        reference_colours(len(COLOURS))


def test_small_parts_become_background_and_all_pixels_of_a_map_count() -> None:
    one = torch.tensor([[1, 1, 2, 0], [1, 3, 3, 0]])
    other = torch.tensor([[2, 2, 2, 2], [0, 0, 0, 1]])
    dropped = drop_small(torch.stack((one, other)), 3)
    assert dropped.tolist() == [[[1, 1, 0, 0], [1, 0, 0, 0]], [[2, 2, 2, 2], [0, 0, 0, 0]]]
    assert torch.equal(drop_small(one, 3), dropped[0])
    assert torch.equal(drop_small(one, 0), one)
    assert drop_small(one.to(torch.uint8), 3).dtype == torch.uint8


@given(st.integers(1, 12), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_assignments_cost_what_those_of_scipy_do(rows: int, more: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    costs = draws.integers(0, 1 + int(draws.choice([2, 10**6])), (rows, rows + more))
    columns = assignment(costs)
    assert len(set(columns.tolist())) == rows
    assert costs[np.arange(rows), columns].sum() == costs[linear_sum_assignment(costs)].sum()
