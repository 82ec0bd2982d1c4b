"""LPIPS and the CLIP score with the real classes and random weights, against their formulas."""

from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPModel

from pipeline.errors import UserError
from pipeline.evaluation.perceptual import SMALLEST_PX, ClipScore, Lpips
from tests.clip_files import save_clip
from tests.evaluation.test_image_metrics import pictures


def save_alexnet(path: Path) -> torch.nn.Sequential:
    """The features of torchvision's AlexNet, of random weights, in a file as torchvision's own."""
    torch.manual_seed(3)
    features: torch.nn.Sequential = torchvision.models.alexnet(weights=None).features.eval()
    weights = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save({**weights, "classifier.6.bias": torch.zeros(1000)}, path)
    return features


def save_whole_clip(folder: Path) -> CLIPModel:
    """A tiny CLIP with its image processor."""
    clip = save_clip(folder)
    CLIPImageProcessor(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30}).save_pretrained(folder)
    return clip


def test_lpips_is_its_formula(tmp_path: Path) -> None:
    features = save_alexnet(tmp_path / "alexnet.pth")
    one, other = pictures(2, 64, seed=1), pictures(2, 64, seed=2)
    linear = torch.load(Path(lpips.__file__).parent / "weights/v0.1/alex.pth", map_location="cpu")

    def layers(shown: np.ndarray) -> list[Tensor]:
        shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
        x = ((2 * torch.from_numpy(shown).float() - 1 - shift) / scale).movedim(-1, 1)
        found = []
        for number, layer in enumerate(features[:12]):
            x = layer(x)
            if number in (1, 4, 7, 9, 11):
                found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found

    expected = torch.zeros(2)
    with torch.no_grad():
        for number, (ours, theirs) in enumerate(zip(layers(one), layers(other), strict=True)):
            weight = linear[f"lin{number}.model.1.weight"]
            expected += torch.nn.functional.conv2d((ours - theirs) ** 2, weight).mean(dim=(1, 2, 3))
    distance = Lpips(tmp_path / "alexnet.pth")
    np.testing.assert_allclose(distance(one, other), expected.numpy(), rtol=1e-4)
    np.testing.assert_allclose(distance(one, one), 0.0, atol=1e-7)


def test_lpips_refuses_pictures_that_it_cannot_see(tmp_path: Path) -> None:
    save_alexnet(tmp_path / "alexnet.pth")
    distance, least = Lpips(tmp_path / "alexnet.pth"), np.zeros((1, SMALLEST_PX, SMALLEST_PX, 3))
    assert distance(least, least) == 0
    with pytest.raises(UserError, match="30 x 31 px; give it at least 31"):
        distance(least[:, :, 1:], least[:, :, 1:])


def test_clip_score_is_the_cosine_of_the_models_embeddings(tmp_path: Path) -> None:
    clip = save_whole_clip(tmp_path / "clip")
    one, other = pictures(2, 32, seed=1), pictures(2, 32, seed=2)
    processor = CLIPImageProcessor.from_pretrained(tmp_path / "clip")

    def embedded(shown: np.ndarray) -> Tensor:
        pixels = processor(images=list((shown * 255).round().astype(np.uint8)), return_tensors="pt")["pixel_values"]
        assert pixels.shape == (2, 3, 30, 30)
        with torch.no_grad():
            # `image_embeds` of the whole model are of length 1
            return clip(input_ids=torch.tensor([[0, 1]]), pixel_values=pixels).image_embeds

    score = ClipScore(tmp_path / "clip")
    np.testing.assert_allclose(score(one, other), (embedded(one) * embedded(other)).sum(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(score(one, one), 1.0, atol=1e-5)
    assert (score(one, other) < 0.9999).all()


def test_files_of_something_else_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    for name in ("text.pth", "other.pth", "absent.pth"):
        with pytest.raises(UserError, match=r"evaluate\.lpips is .*alexnet-owt"):
            Lpips(tmp_path / name)
    save_clip(tmp_path / "clip")  # without its image processor
    (tmp_path / "config.json").write_text("{}")
    for folder in (tmp_path / "clip", tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"evaluate\.clip is "):
            ClipScore(folder)
