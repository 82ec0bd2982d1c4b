"""What a denoiser is given beside the noised latents, and how the network is called with it.

Shape suffixes: B samples, C latent channels, H W the latents' height and width, K stacked channels, L text tokens,
D width of a text token, P width of the pooled text, N tokens of the image encoder, E their width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conditions:
    """The conditions of a batch, encoded."""

    text_BLD: Tensor
    pooled_BP: Tensor | None = None
    """The pooled text embedding that SDXL's network adds to the time embedding."""
    stacked_BKHW: Tensor | None = None
    beside_BCHW: Tensor | None = None
    image_BNE: Tensor | None = None
    objects_B: Tensor | None = None
    """Where the parts of an object are drawn together, the number of each one's object, at least 0; int64."""

    def dropped(self, where_B: Tensor, null_text: "Conditions") -> "Conditions":
        """Without conditions at the samples in `where_B` (bool): the null text, zero latents, zero image tokens."""

        def drop(value: Tensor | None, null: Tensor | float = 0.0) -> Tensor | None:
            if value is None:
                return None
            where = where_B.view(-1, *[1] * (value.ndim - 1))
            return torch.where(where, torch.as_tensor(null, dtype=value.dtype, device=value.device), value)

        text = drop(self.text_BLD, null_text.text_BLD)
        assert text is not None
        pooled = None if null_text.pooled_BP is None else drop(self.pooled_BP, null_text.pooled_BP)
        beside, image = drop(self.beside_BCHW), drop(self.image_BNE)
        return Conditions(text, pooled, drop(self.stacked_BKHW), beside, image, self.objects_B)

    def joined(self, other: "Conditions") -> "Conditions":
        """This batch, then the other: for classifier-free guidance in one pass."""

        def join(one: Tensor | None, two: Tensor | None) -> Tensor | None:
            return None if one is None or two is None else torch.cat((one, two))

        # What is drawn of an object in one batch knows nothing of what is drawn of it in the other.
        theirs = None if other.objects_B is None else -1 - other.objects_B
        return Conditions(
            torch.cat((self.text_BLD, other.text_BLD)),
            join(self.pooled_BP, other.pooled_BP),
            join(self.stacked_BKHW, other.stacked_BKHW),
            join(self.beside_BCHW, other.beside_BCHW),
            join(self.image_BNE, other.image_BNE),
            join(self.objects_B, theirs),
        )


def predict(unet: nn.Module, noised_BCHW: Tensor, timesteps_B: Tensor, conditions: Conditions) -> Tensor:
    """The network's prediction of v for the target's latents, (B, C, H, W).

    Stacked conditions go into the input channels (A.5, A.6). Latents beside the noised ones share the network's width;
    what it predicts there is cut off (A.4). Image tokens go through the network's own resampler. `unet` is a
    MultiViewUNet, or what accelerate wraps around it.
    """
    sample = noised_BCHW
    if conditions.stacked_BKHW is not None:
        sample = torch.cat((sample, conditions.stacked_BKHW), dim=1)
    if conditions.beside_BCHW is not None:
        sample = torch.cat((sample, conditions.beside_BCHW), dim=3)
    added: dict[str, Tensor | list[Tensor]] = {}
    if conditions.objects_B is not None:
        added["objects"] = conditions.objects_B
    if conditions.image_BNE is not None:
        added["image_embeds"] = [conditions.image_BNE]
    if conditions.pooled_BP is not None:
        added["text_embeds"] = conditions.pooled_BP
        added["time_ids"] = time_ids(noised_BCHW)
    v_BCHW: Tensor = unet(sample, timesteps_B, conditions.text_BLD, added_cond_kwargs=added).sample
    return v_BCHW[..., : noised_BCHW.shape[-1]]


def time_ids(noised_BCHW: Tensor) -> Tensor:
    """SDXL's size conditioning, (B, 6): original size, no crop, target size; all that of the picture that is drawn.

    In pixels: SDXL's autoencoder has 8 a latent.
    """
    height, width = (8 * side for side in noised_BCHW.shape[2:])
    return noised_BCHW.new_tensor([height, width, 0, 0, height, width]).repeat(len(noised_BCHW), 1)
