"""Parts of a grid completed: which of them a network is given together."""

import numpy as np
import pytest

from pipeline.diffusion.pipelines import CompletionPipeline
from pipeline.parts.completion import draw
from tests.diffusion.test_pipelines import mask, model, picture


@pytest.mark.parametrize(("task", "batches"), [("complete", [8, 1]), ("complete_joint", [9])])
def test_a_network_that_draws_parts_together_is_given_all_of_an_object(task: str, batches: list[int]) -> None:
    network = model(task)
    assert isinstance(network, CompletionPipeline)
    masks, seen = {part: mask(part) for part in range(1, 10)}, list[int]()
    hook = network.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    drawn = draw(network, picture(0), masks, seed=0)
    steps = network.config.steps
    assert seen == [size for size in batches for _ in range(steps)]
    turned = draw(network, picture(0), dict(reversed(masks.items())), seed=0)
    hook.remove()
    assert list(drawn) == list(masks)
    for part in masks:
        np.testing.assert_allclose(drawn[part], turned[part], atol=1e-4)
