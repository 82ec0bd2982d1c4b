"""Text and image encoders: the packaged ones, and CLIP's."""

import json
from pathlib import Path

import pytest
import skimage.data
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import CLIPModel

from pipeline.diffusion.image import ClipImage, EfficientNetLite0, build_image_encoder, image_embed_width
from pipeline.diffusion.text import ClipText, MiniLM, build_text_encoder
from pipeline.errors import UserError
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams, ImageParams, TextParams
from tests import clip_files

torch.set_num_threads(1)  # with more, threads of a busy machine wait for one another

NANO = load_group(DiffusionParams, path=Path("presets/nano.yaml"))


def text_params(path: Path, max_tokens: int = clip_files.MAX_TOKENS) -> TextParams:
    return TextParams(encoder="clip", path=str(path), max_tokens=max_tokens)


def image_params(path: Path) -> ImageParams:
    return NANO.image.model_copy(update={"encoder": "clip", "path": str(path)})


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    encoder = build_text_encoder(NANO.text)
    assert isinstance(encoder, MiniLM)
    return encoder


@pytest.fixture(scope="module")
def efficientnet() -> EfficientNetLite0:
    encoder = build_image_encoder(NANO.image)
    assert isinstance(encoder, EfficientNetLite0)
    return encoder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CLIPModel]:
    folder = tmp_path_factory.mktemp("clip")
    return folder, clip_files.save_clip(folder)


def test_minilm_pads_every_prompt_to_the_same_length(minilm: MiniLM) -> None:
    prompts = ["", "a chair", "a long wooden table with four thin legs"]
    text_BLD, pooled = minilm.encode(prompts)
    assert text_BLD.shape == (3, NANO.text.max_tokens, minilm.width)
    assert pooled is None
    for prompt, tokens in zip(prompts, text_BLD, strict=True):  # a prompt's tokens do not depend on its batch
        torch.testing.assert_close(minilm.encode([prompt])[0][0], tokens, atol=1e-5, rtol=1e-4)


def test_minilm_brings_its_trained_weights(minilm: MiniLM) -> None:
    # the model card's own use: the mean of a sentence's tokens
    sofa, couch, screw = (
        minilm.encode([prompt])[0][0, :7].mean(0) for prompt in ("a red sofa", "a crimson couch", "a steel screw")
    )
    assert cosine_similarity(sofa, couch, dim=0) > 0.7
    assert cosine_similarity(sofa, screw, dim=0) < 0.5


def test_a_long_prompt_is_refused_with_its_beginning(minilm: MiniLM) -> None:
    fits = " ".join(["chair"] * (NANO.text.max_tokens - 2))  # two more mark beginning and end
    minilm.encode([fits])
    with pytest.raises(
        UserError, match=r"`chair chair .*\.\.\.` has 49 tokens, and the text encoder takes 48; shorten it"
    ):
        minilm.encode(["", f"{fits} chair"])


def test_more_tokens_than_the_encoder_has_places_for_are_refused(clip: tuple[Path, CLIPModel]) -> None:
    with pytest.raises(UserError, match=r"max_tokens is 513, the text encoder takes 512"):
        MiniLM(max_tokens=513)
    with pytest.raises(UserError, match=r"max_tokens is 77, the text encoder takes 24"):
        build_text_encoder(text_params(clip[0], max_tokens=77))


def test_packaged_encoders_are_kept_as_their_config(
    minilm: MiniLM, efficientnet: EfficientNetLite0, tmp_path: Path
) -> None:
    minilm.save_pretrained(tmp_path / "text")
    efficientnet.save_pretrained(tmp_path / "image")
    assert [path.name for path in sorted(tmp_path.glob("*/*"))] == ["config.json", "config.json"]
    assert json.loads((tmp_path / "text/config.json").read_text())["max_tokens"] == NANO.text.max_tokens
    text = MiniLM.from_pretrained(tmp_path, subfolder="text")
    assert torch.equal(text.encode(["a chair"])[0], minilm.encode(["a chair"])[0])
    image = EfficientNetLite0.from_pretrained(tmp_path / "image", torch_dtype=torch.float64)
    assert image.dtype == torch.float64
    picture = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(image.encode(picture.double()).float(), efficientnet.encode(picture), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("name", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {967, 504})])
def test_efficientnet_sees_what_is_in_a_photograph(
    efficientnet: EfficientNetLite0, name: str, classes: set[int]
) -> None:
    """A cat and a cup of espresso, by their numbers in ImageNet: scale and order of the channels are right."""
    photograph = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1)[None] / 255
    side = photograph.shape[2]
    tokens = efficientnet.encode(photograph[..., :side])
    assert tokens.shape == (1, 49, efficientnet.width)
    assert int(efficientnet.model._fc(tokens.mean(1)).argmax()) in classes


def test_tokens_lie_where_the_picture_shows_something(efficientnet: EfficientNetLite0) -> None:
    picture = torch.ones(1, 3, 224, 224)
    blank = efficientnet.encode(picture)
    picture[..., 150:200, 150:200] = torch.rand(50, 50, generator=torch.Generator().manual_seed(0))
    change = (efficientnet.encode(picture) - blank).abs().sum(-1).view(7, 7)
    row, column = divmod(int(change.argmax()), 7)
    assert (row, column) in {(y, x) for y in (4, 5, 6) for x in (4, 5, 6)}


def test_frozen_encoders_take_no_gradients(minilm: MiniLM, efficientnet: EfficientNetLite0) -> None:
    for encoder in (minilm, efficientnet):
        assert not encoder.training
        assert not any(value.requires_grad for value in encoder.parameters())
    assert not efficientnet.encode(torch.rand(1, 3, 32, 32, requires_grad=True)).requires_grad


def test_one_clip_gives_its_last_layer(clip: tuple[Path, CLIPModel]) -> None:
    folder, whole = clip
    encoder = build_text_encoder(text_params(folder))
    tokens, pooled = encoder.encode(["", "chair"])
    assert (encoder.width, pooled) == (32, None)
    ids = clip_files.tokenizer()(["", "chair"], padding="max_length", max_length=24, return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(tokens, whole.text_model(ids).last_hidden_state)


def test_clip_vision_gives_the_last_layer_but_one(clip: tuple[Path, CLIPModel]) -> None:
    folder, whole = clip
    encoder = build_image_encoder(image_params(folder))
    pictures = torch.rand(2, 3, 30, 30)
    tokens = encoder.encode(pictures)
    assert tokens.shape == (2, 10, 48) == (2, 10, encoder.width)
    assert image_embed_width(image_params(folder)) == 48
    mean, std = torch.tensor([0.4815, 0.4578, 0.4082]), torch.tensor([0.2686, 0.2613, 0.2758])  # of CLIP's processor
    pixels = (pictures - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        states = whole.vision_model(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(tokens, states[-2], atol=1e-3, rtol=0)


def test_clips_survive_saving(clip: tuple[Path, CLIPModel], tmp_path: Path) -> None:
    one = build_text_encoder(text_params(clip[0]))
    two = ClipText(
        encoders=[clip_files.text_model(16), clip_files.text_model_with_projection(32)],
        tokenizers=[clip_files.tokenizer()] * 2,
        max_tokens=12,
    )
    image = build_image_encoder(image_params(clip[0]))
    for number, text in enumerate((one, two)):
        text.save_pretrained(tmp_path / str(number))
        again = ClipText.from_pretrained(tmp_path / str(number))
        assert (again.width, again.pooled_width) == (text.width, text.pooled_width)
        assert _same(again.encode(["a chair"]), text.encode(["a chair"]))
    assert (two.width, two.pooled_width) == (48, 20)
    image.save_pretrained(tmp_path / "image")
    picture = torch.rand(1, 3, 64, 64)
    assert torch.equal(ClipImage.from_pretrained(tmp_path, subfolder="image").encode(picture), image.encode(picture))


def test_folders_without_a_clip_are_refused(clip: tuple[Path, CLIPModel], tmp_path: Path) -> None:
    for path, message in ((tmp_path, "no CLIP text model"), (tmp_path / "none", "no CLIP text model")):
        with pytest.raises(UserError, match=message):
            build_text_encoder(text_params(path))
        with pytest.raises(UserError, match="CLIPVisionModel"):
            build_image_encoder(image_params(path))
        with pytest.raises(UserError, match=r"diffusion\.image\.path"):
            image_embed_width(image_params(path))
    with pytest.raises(UserError, match=r"diffusion\.text\.path is empty"):
        build_text_encoder(NANO.text.model_copy(update={"encoder": "clip"}))
    clip_files.text_model().save_pretrained(tmp_path)  # the text half alone, and no tokeniser
    with pytest.raises(UserError, match="no CLIP tokeniser"):
        build_text_encoder(text_params(tmp_path))
    with pytest.raises(UserError, match="CLIPVisionModel"):
        build_image_encoder(image_params(tmp_path))


def _same(one: tuple[Tensor, Tensor | None], other: tuple[Tensor, Tensor | None]) -> bool:
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in zip(one, other, strict=True))
