"""SAM2 by transformers' own classes at a tiny size, with random weights: inference and both kinds of fine-tuning."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

from pipeline.errors import UserError
from pipeline.evaluation.ranking import automatic, seeded
from pipeline.evaluation.sam2 import Sam2Segmenter, prompts, query_points
from pipeline.evaluation.sam2_objective import UNUSED, PointPrompts, Sam2Objective, mask_iou, mask_loss
from pipeline.params.train import LoopParams, TaskParams
from pipeline.regions.proposals import Proposals, iou
from pipeline.training.loop import train
from tests.toy_corpus import write_toy_corpus

PIXELS = 64

LOOP = LoopParams(
    seed=0,
    precision="fp32",
    warmup_steps=0,
    cooldown=0.0,
    weight_decay=0.0,
    clip_norm=10.0,
    ema_decay=0.0,
    drop_condition=0.0,
    part_balance=0.0,
    augment=False,
    precompute=False,
    checkpoint_every=1000,
    validate_every=1000,
    pictures_every=1000,
)


def tiny_sam2() -> Sam2Model:
    torch.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [PIXELS, PIXELS],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 4, 4, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
    }
    prompt = {"hidden_size": 32, "image_size": PIXELS, "mask_input_channels": 8}
    decoder = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    return Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))


@pytest.fixture(scope="module")
def processor() -> Sam2Processor:
    return Sam2Processor(Sam2ImageProcessor(size={"height": PIXELS, "width": PIXELS}))


@pytest.fixture
def segmenter(tmp_path: Path, processor: Sam2Processor) -> Sam2Segmenter:
    """Saved and loaded, as a user's weights are."""
    tiny_sam2().save_pretrained(tmp_path / "sam2")
    processor.save_pretrained(tmp_path / "sam2")
    return Sam2Segmenter.from_pretrained(tmp_path / "sam2")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_toy_corpus(tmp_path / "data")
    return tmp_path / "data"


def a_grid() -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    labels = np.kron(draws.integers(0, 3, (4, 4)), np.ones((8, 8), dtype=int)).astype(np.uint8)
    return draws.random((32, 32, 3)) * (labels > 0)[..., None], labels


def test_proposals_are_the_models_own_masks_ranked(segmenter: Sam2Segmenter, processor: Sam2Processor) -> None:
    image, labels = a_grid()
    ranked = segmenter.automatic(image, labels > 0)
    assert len(ranked)
    assert (np.diff(ranked.score_N) <= 0).all()
    assert ranked.masks().shape[1:] == (32, 32)
    # The first of them, by the model's whole forward pass: no embeddings kept, no batches.
    pixels = processor(images=(image * 255).round().astype(np.uint8), return_tensors="pt")["pixel_values"]
    points = query_points(labels > 0, segmenter.query_spacing)
    with torch.no_grad():
        seen = segmenter.model(pixel_values=pixels, input_points=prompts(processor, points, (32, 32)))
    scores = seen.iou_scores.flatten()
    assert len(scores) == 3 * len(points)
    low = seen.pred_masks.flatten(0, 2)
    best = max(range(len(scores)), key=lambda n: (float(scores[n]), int((low[n] > 0).sum())))
    assert ranked.score_N[0] == pytest.approx(float(scores[best]), abs=1e-6)
    expected = processor.post_process_masks([low[best][None, None]], [[32, 32]])[0][0].numpy()
    truth = Proposals.of_masks(expected, [1.0])
    assert iou(ranked.take(np.array([0])), truth)[0, 0] > 0.99


def test_a_seed_gives_three_masks_at_most(segmenter: Sam2Segmenter) -> None:
    image, labels = a_grid()
    y, x = (int(place) for place in np.argwhere(labels == 1)[0])
    assert 1 <= len(segmenter.seeded(image, y, x)) <= 3
    result = seeded(lambda y, x: segmenter.seeded(image, y, x), labels)
    assert set(result) == set(automatic(segmenter.automatic(image, labels > 0), labels))


def test_an_empty_picture_has_no_proposals(segmenter: Sam2Segmenter) -> None:
    ranked = segmenter.automatic(np.ones((32, 32, 3)), np.zeros((32, 32), dtype=bool))
    assert len(ranked) == 0
    assert automatic(ranked, a_grid()[1])["ap50"] == 0.0


def test_query_points_lie_on_the_object_and_spread() -> None:
    foreground = np.zeros((40, 40), dtype=bool)
    foreground[:20, 20:] = True
    points = query_points(foreground, 4)
    assert len(points) == 16
    assert foreground[points[:, 0], points[:, 1]].all()
    assert points.min(axis=0).tolist() == [2, 22]
    assert points.max(axis=0).tolist() == [17, 37]


def test_points_are_given_as_x_and_y_in_the_models_pixels(processor: Sam2Processor) -> None:
    given = prompts(processor, np.array([[3, 5], [0, 31]]), (32, 32))
    assert given.tolist() == [[[[11.0, 7.0]], [[63.0, 1.0]]]]


def test_what_is_no_sam2_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"cannot be read as SAM2.*sam2\.1-hiera-large"):
            Sam2Segmenter.from_pretrained(path)


def test_loss_is_zero_for_a_perfect_mask_and_counts_the_best_alone() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4] = True
    right, wrong = torch.where(mask, 50.0, -50.0), torch.where(mask, -50.0, 50.0)
    logits = torch.stack([wrong, right, wrong], dim=1)
    assert mask_iou(logits, mask).tolist() == [[0.0, 1.0, 0.0]]
    assert mask_loss(logits, torch.tensor([[0.0, 1.0, 0.0]]), mask).item() == pytest.approx(0, abs=1e-4)
    assert mask_loss(logits, torch.tensor([[0.3, 1.0, 0.0]]), mask).item() == pytest.approx(0.1, abs=1e-4)
    # By hand for even odds: focal .5^2 log 2 (.25 + .75) / 2, dice 1 - 33 / 65.
    even = mask_loss(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3), mask).item()
    assert even == pytest.approx(20 * 0.125 * np.log(2) + 1 - 33 / 65, abs=1e-4)


@pytest.mark.parametrize("views", [1, 4])
def test_prompts_are_functions_of_their_number_and_lie_in_their_mask(
    corpus: Path, processor: Sam2Processor, views: Literal[1, 4]
) -> None:
    examples = PointPrompts(corpus, "train", processor, views, seed=1)
    seen = set()
    for number in range(12):
        item, again = examples[number], PointPrompts(corpus, "train", processor, views, seed=1)[number]
        assert item["object_id"] == again["object_id"]
        assert torch.equal(item["mask"], again["mask"])
        assert torch.equal(item["pixel_values"], again["pixel_values"])
        side = item["mask"].shape[0]
        assert item["shown"].shape == (side, side, 3)
        assert side == (16 if views == 1 else 32)
        x, y = (item["input_points"][0, 0] * side / PIXELS).int().tolist()
        assert item["mask"][y, x]
        seen.add(item["object_id"])
    assert len(seen) > 1


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["mask_decoder", "all"])
def test_fine_tuning_learns_and_leaves_the_rest(
    tmp_path: Path, corpus: Path, processor: Sam2Processor, trained: Literal["mask_decoder", "all"]
) -> None:
    model = tiny_sam2()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    views: Literal[1, 4] = 1 if trained == "mask_decoder" else 4
    examples = PointPrompts(corpus, "train", processor, views, seed=0)
    objective = Sam2Objective(model, examples, PointPrompts(corpus, "train", processor, views, seed=2), trained)
    untrained = objective.validation()
    schedule = TaskParams(steps=12, batch=4, micro_batch=2, learning_rate=3e-3)
    train(objective, "sam2", LOOP, schedule, tmp_path / "training", tmp_path / "curve.csv")
    assert objective.validation()["loss"] < untrained["loss"] - 0.1
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    if trained == "mask_decoder":
        assert all(name.startswith("mask_decoder.") for name in changed)
    else:
        assert any(name.startswith("vision_encoder.") for name in changed)
    assert not any(name.startswith(UNUSED) for name in changed)
    # Several processes need a gradient for every parameter that is trained.
    objective.loss(model, objective.collate([examples[0], examples[1]])).mean().backward()
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)
    assert objective.pictures()["samples"].dtype == np.uint8


def test_a_split_without_objects_is_named(corpus: Path, processor: Sam2Processor) -> None:
    with pytest.raises(UserError, match="nowhere"):
        PointPrompts(corpus, "nowhere", processor, 4, seed=0)
