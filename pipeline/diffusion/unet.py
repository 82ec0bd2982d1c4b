"""The denoisers: UNet2DConditionModel of diffusers, with an image branch where the task has image tokens (A.4), and
attention among the parts of an object where they are drawn together (supplement E).

Shape suffixes as in `pipeline.diffusion.denoiser`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers import (
    ConfigMixin,
    ModelMixin,  # noqa: F401 - diffusers looks it up in this module when it loads a pipeline with a network of ours
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterPlusImageProjection
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.diffusion.part_attention import PartAttention
from pipeline.diffusion.tasks import Task
from pipeline.errors import UserError
from pipeline.folders import reading, without_origin

if TYPE_CHECKING:
    from pipeline.params.diffusion import DiffusionParams, ImageParams, UNetParams


class MultiViewUNet(UNet2DConditionModel):
    """A UNet2DConditionModel that can also attend to the tokens of an image, or from part to part of an object.

    `image_tokens` are the settings of the image branch, None for none: `image_embed_width` (of the encoder's tokens),
    `image_queries`, `image_width`, `image_hidden`, `image_depth`, `image_heads` (of the resampler). The resampler is
    that of IP-Adapter; its tokens get a cross-attention of their own, beside the text's, in every attention block.
    That one's values start at zero, so a network that gains the branch gives what it gave before.

    With `part_attention`, which excludes the image branch, every attention block has a `PartAttention`.

    It saves and loads as its parent does, and loads the parent's folders too. With the branch, a call needs the
    encoder's tokens (B, N, E) in `added_cond_kwargs={"image_embeds": [tokens]}`; with `part_attention` the number of
    each sample's object, (B,), as `objects` there.
    """

    def __init__(self, image_tokens: dict[str, int] | None = None, part_attention: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_to_config(image_tokens=image_tokens)
        self.image_resampler: IPAdapterPlusImageProjection | None = None
        if part_attention:
            self.register_to_config(part_attention=True)  # configs without it stay what they were
            for attention in cross_attentions(self):
                attention.set_processor(PartAttention(attention.inner_dim, attention.heads))
            return
        if image_tokens is None:
            return
        self.image_resampler = IPAdapterPlusImageProjection(
            embed_dims=image_tokens["image_embed_width"],
            output_dims=image_tokens["image_width"],
            hidden_dims=image_tokens["image_hidden"],
            depth=image_tokens["image_depth"],
            dim_head=image_tokens["image_hidden"] // image_tokens["image_heads"],
            heads=image_tokens["image_heads"],
            num_queries=image_tokens["image_queries"],
        )
        for attention in cross_attentions(self):
            processor = IPAdapterAttnProcessor2_0(
                hidden_size=attention.inner_dim,
                cross_attention_dim=image_tokens["image_width"],
                num_tokens=(image_tokens["image_queries"],),
            )
            nn.init.zeros_(processor.to_v_ip[0].weight)
            attention.set_processor(processor)

    @staticmethod
    def _get_init_keys(input_class: type) -> set[str]:
        # diffusers takes what a config may hold from the signature of the class alone; ours has the parent's as kwargs
        networks = (base for base in input_class.__mro__ if issubclass(base, UNet2DConditionModel))
        return set().union(*(ConfigMixin._get_init_keys(network) for network in networks))

    def process_encoder_hidden_states(
        self, encoder_hidden_states: Tensor, added_cond_kwargs: dict[str, Any]
    ) -> Tensor | tuple[Tensor, Tensor | list[Tensor]]:
        """The text tokens, and beside them what the attention takes: the image tokens, resampled, or the objects."""
        text_BLD = super().process_encoder_hidden_states(encoder_hidden_states, added_cond_kwargs)
        if self.config.get("part_attention"):
            if "objects" not in added_cond_kwargs:
                raise ValueError("a network with attention among parts needs `objects` in added_cond_kwargs")
            return text_BLD, added_cond_kwargs["objects"]
        if self.image_resampler is None:
            return text_BLD
        if "image_embeds" not in added_cond_kwargs:
            raise ValueError("a network with an image branch needs `image_embeds` in added_cond_kwargs")
        (image_BNE,) = added_cond_kwargs["image_embeds"]
        return text_BLD, [self.image_resampler(image_BNE)]


def cross_attentions(unet: UNet2DConditionModel) -> list[Attention]:
    """The attentions to the text, one a transformer block."""
    return [module for name, module in unet.named_modules() if name.endswith(".attn2")]


def build_unet(
    params: DiffusionParams,
    task: Task,
    latent_channels: int,
    sample_size: int,
    text_width: int,
    embed_width: int | None = None,
) -> MultiViewUNet:
    """A network of random weights for the task.

    `sample_size` is the side of the target's latents, `text_width` that of a text token, `embed_width` that of a token
    of the image encoder: None for that of `params.image`. UserError when the params do not fit one another.
    """
    return MultiViewUNet(
        sample_size=sample_size,
        in_channels=task.in_channels(latent_channels),
        out_channels=latent_channels,
        cross_attention_dim=text_width,
        image_tokens=image_branch(params.image, embed_width) if task.image_tokens else None,
        part_attention=task.joint,
        **_layers(params.unet),
    )


def image_branch(params: ImageParams, embed_width: int | None = None) -> dict[str, int]:
    """The `image_tokens` of a network; `embed_width` of a token of the image encoder, None for that of the params."""
    if embed_width is None:
        from pipeline.diffusion.image import image_embed_width

        embed_width = image_embed_width(params)
    if params.hidden % params.heads:
        raise UserError(
            f"diffusion.image.hidden is {params.hidden}, which {params.heads} heads do not divide; "
            "choose a multiple of diffusion.image.heads."
        )
    return {
        "image_embed_width": embed_width,
        "image_queries": params.queries,
        "image_width": params.width,
        "image_hidden": params.hidden,
        "image_depth": params.depth,
        "image_heads": params.heads,
    }


def _layers(params: UNetParams) -> dict[str, Any]:
    """The part of the network's config that the params describe."""
    for name in ("attention", "transformer_layers"):
        if len(getattr(params, name)) != len(params.channels):
            raise UserError(
                f"diffusion.unet.{name} has {len(getattr(params, name))} values, diffusion.unet.channels "
                f"{len(params.channels)}; give one a resolution."
            )
    # The middle block attends at the coarsest resolution, whatever its own blocks do, as in Stable Diffusion
    attends = [*params.attention[:-1], True]
    for channels, attention in zip(params.channels, attends, strict=True):
        if attention and channels % params.head_channels:
            raise UserError(
                f"diffusion.unet.channels has {channels}, no multiple of the {params.head_channels} of "
                "diffusion.unet.head_channels; a resolution that attends needs whole heads."
            )
    down = ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in params.attention]
    up = ["CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(params.attention)]
    return {
        "block_out_channels": tuple(params.channels),
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "layers_per_block": params.layers,
        "transformer_layers_per_block": tuple(params.transformer_layers),
        # by its name the channels of a head, by its use in diffusers the number of heads
        "attention_head_dim": tuple(max(1, channels // params.head_channels) for channels in params.channels),
        "norm_num_groups": math.gcd(32, *params.channels),
        "use_linear_projection": True,
    }


def fine_tuned_from(
    base: MultiViewUNet, task: Task, params: DiffusionParams, embed_width: int | None = None
) -> MultiViewUNet:
    """A network for the task that starts at the base's weights: with zero new inputs it gives what the base gives.

    All input channels but the noised latents' start at zero; so do the values of a new image branch (`embed_width` as
    for `build_unet`) and what attention among parts adds. What further input channels the base has serve another task
    and are left behind, but where the parts of that task are now drawn together.
    """
    config = {key: value for key, value in base.config.items() if not key.startswith("_")}
    config["in_channels"] = task.in_channels(base.config.out_channels)
    config["image_tokens"] = image_branch(params.image, embed_width) if task.image_tokens else None
    config["part_attention"] = task.joint
    tuned = MultiViewUNet(**config)
    weights = base.state_dict()
    kept = base.config.in_channels if task.joint else base.config.out_channels
    conv_in = torch.zeros_like(tuned.conv_in.weight)
    conv_in[:, :kept] = weights["conv_in.weight"][:, :kept]
    weights["conv_in.weight"] = conv_in
    own = tuned.state_dict()
    tuned.load_state_dict({name: weights.get(name, own[name]) for name in own})
    return tuned


def load_unet(folder: Path, expected: MultiViewUNet | None = None) -> MultiViewUNet:
    """The network of a folder that `save_pretrained` wrote, of this class or of a plain UNet2DConditionModel.

    UserError when there is none, or when a layer has another shape than in `expected` (which may be on the meta
    device), or, without it, than its own config says.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no network: no config.json; name a folder written by save_pretrained.")
    with reading(folder, "network"):
        if expected is None:
            with torch.device("meta"):
                expected = MultiViewUNet.from_config(MultiViewUNet.load_config(folder))
        check_shapes(folder, shapes(expected))
        network: MultiViewUNet = MultiViewUNet.from_pretrained(str(folder), torch_dtype=torch.float32)
    return without_origin(network)


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of its layers' weights, by name; the network may be on the meta device."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def check_shapes(folder: Path, expected: dict[str, tuple[int, ...]]) -> None:
    """UserError when the weights of a folder lack a layer, have one too many, or one of another shape."""
    found = _shapes_in(folder)
    for name in expected | found:
        if found.get(name) != expected.get(name):
            has, needs = (_shape(shapes.get(name)) for shapes in (found, expected))
            raise UserError(
                f"{folder}: the layer {name} is {has}, expected was {needs}; "
                "use a checkpoint of that shape, or the params that it was made with."
            )


def _shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("diffusion_pytorch_model*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                shapes.update((name, tuple(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is not a whole safetensors file ({error}); copy it again.") from None
    if not shapes:
        raise UserError(f"{folder} holds no diffusion_pytorch_model.safetensors; copy the network's weights there.")
    return shapes


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a number"
