"""What the training loop minimises for the autoencoder: pictures after a round trip, renders and colour maps alike.

Shape suffixes: B samples, Q reference colours, H W pixels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.utils.data import Dataset

from pipeline.diffusion.autoencoder import (
    Autoencoder,
    closed_form_start,
    latent_channels,
    latent_factor,
    standardise,
    to_images,
    to_latents,
)
from pipeline.diffusion.examples import Examples
from pipeline.diffusion.tasks import TASKS
from pipeline.params.diffusion import DiffusionParams
from pipeline.views.part_colours import decode_colours, reference_colours

LATENT_NOISE = 0.1
"""Mean deviation of the noise on latents of deviation 1 (up to twice this): what a denoiser leaves must not spoil a
picture. `AutoencoderKL` has its posterior's instead."""
COLOUR_WEIGHT = 0.1
"""Of the cross-entropy of colour maps, against the errors of colour."""
COLOUR_SHARPNESS = 16.0
"""A pixel's log-odds of a reference colour are minus this times its squared distance in RGB, values in [0, 1]."""
MOMENTS_WEIGHT, KL_WEIGHT = 0.1, 1e-6
"""Of what keeps latents from growing: their distance from the closed form's moments, or the posterior's divergence from
a standard normal."""
CROP_LATENTS = 8
"""Side of a crop: a quarter of the grid's, and no fewer than this many latents."""
CLOSED_FORM_PICTURES, STANDARD_GRIDS, BATCH = 1024, 128, 16
HELD_OUT = 32
PICTURES = 4
CROP, NOISE = 2, 3
"""Keep these draws apart from those of the augmentation."""


class Pictures(Dataset[dict[str, Any]]):
    """Crops: every second of a colour map, the others of objects and of parts alone in turn.

    Numbered and drawn as in `Examples`. Small crops that lie where there is something to see teach more in the same
    time than whole views do. With `augment`, the colour channels of renders change places, so that a colour that is
    rare among the objects is none among the pictures.
    """

    def __init__(
        self,
        data: Path,
        split: str,
        params: DiffusionParams,
        seed: int,
        augment: bool,
        expected_view_size: int | None = None,
    ) -> None:
        """UserErrors as in `Examples`."""
        self.augment = augment
        self.objects, self.parts = (
            Examples(data, TASKS[name], split, params, seed, 0.0, augment, expected_view_size=expected_view_size)
            for name in ("segment", "complete_no_context")
        )
        self.seed = seed
        self.least_side = CROP_LATENTS * params.autoencoder.factor
        self._held: dict[str, tuple[int, dict[str, Any]]] = {}

    def __getitem__(self, number: int) -> dict[str, Any]:
        """`picture`, float32 (3, h, w) in [0, 1]; `coloured`, whether it is of a colour map; `number`; `object_id`."""
        grid, object_id = self.grid(number)
        draws, coloured = np.random.default_rng((self.seed, number, CROP)), number % 2 == 0
        side = min(grid.shape[-1], max(grid.shape[-1] // 4, self.least_side))
        crop = _crop(grid, side, _edges(grid) if coloured else grid.amin(dim=0) < 1, draws)
        picture = crop[draws.permutation(3)] if self.augment and not coloured else crop
        return {"picture": picture, "coloured": coloured, "number": number, "object_id": object_id}

    def grid(self, number: int) -> tuple[Tensor, str]:
        """The picture from which sample `number` is cropped, (3, H, W), and whose it is."""
        kind, name = {1: ("objects", "whole"), 3: ("parts", "part")}.get(number % 4, ("objects", "colours"))
        # Neighbours in number are of one object, which is read once.
        if kind not in self._held or self._held[kind][0] != number // 4:
            self._held[kind] = number // 4, getattr(self, kind)[number // 4]
        item = self._held[kind][1]
        return item["images"][name], item["object_id"]

    def grids(self, count: int, batch: int) -> Iterator[Tensor]:
        """The first `count` of these pictures, whole, in batches (B, 3, H, W)."""
        for start in range(0, count, batch):
            yield torch.stack([self.grid(number)[0] for number in range(start, min(count, start + batch))])


class RoundTrip(nn.Module):
    """An autoencoder as it is trained: pictures and noise in, pictures and penalty out."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, H, W) in [-1, 1] and normal noise (B, C, h, w) to decoded ones and penalties (B,)."""
        posterior = self.autoencoder.encode(images).latent_dist
        if isinstance(self.autoencoder, AutoencoderKL):
            noised = posterior.mean + posterior.std * noise
            return self.autoencoder.decode(noised).sample, KL_WEIGHT * posterior.kl()
        latents, linear = posterior.mode(), self.autoencoder.encode_linear_only(images)
        means = (latents - linear).mean(dim=(2, 3)).square()
        powers = (latents.square() - linear.square()).mean(dim=(2, 3)).square()
        return self.autoencoder.decode(latents + noise).sample, MOMENTS_WEIGHT * (means + powers).mean(dim=1)


class AutoencoderObjective:
    """The autoencoder's loss: absolute and squared error of pictures; for colour maps, the right colours, too."""

    def __init__(
        self, autoencoder: Autoencoder, examples: Pictures, validation: Examples | None, colours: int, seed: int
    ) -> None:
        """`validation` are examples of `segment`, not augmented; `colours` is their Q."""
        self.autoencoder, self.colours, self.seed = autoencoder, colours, seed
        self.module = RoundTrip(autoencoder)
        self._examples, self._validation = examples, validation

    def closed_form_start(self) -> None:
        """Give a new `PatchAutoencoder` its linear maps; an `AutoencoderKL` stays as it is."""
        if not isinstance(self.autoencoder, AutoencoderKL):
            # Of crops, which show more of the objects than whole grids do.
            numbers = [range(start, start + BATCH) for start in range(0, CLOSED_FORM_PICTURES, BATCH)]
            crops = [torch.stack([self._examples[number]["picture"] for number in batch]) for batch in numbers]
            closed_form_start(self.autoencoder, [crop * 2 - 1 for crop in crops], LATENT_NOISE)
            self.standardise()

    def standardise(self) -> None:
        """After the training: latents of mean 0 and variance 1 over training pictures, as a denoiser expects them."""
        grids = [grid.to(self.autoencoder.device) for grid in self._examples.grids(STANDARD_GRIDS, BATCH)]
        standardise(self.autoencoder, grids)

    def examples(self) -> Pictures:
        """The training examples."""
        return self._examples

    def collate(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Crops as a batch."""
        return {
            "pictures": torch.stack([item["picture"] for item in items]),
            "coloured": torch.tensor([item["coloured"] for item in items]),
            "number": torch.tensor([item["number"] for item in items]),
            "object_id": [item["object_id"] for item in items],
        }

    def loss(self, module: nn.Module, batch: dict[str, Any]) -> Tensor:
        """The errors with the penalty, for each picture: (B,). Errors are of values in [-1, 1]."""
        images = batch["pictures"] * 2 - 1
        height, width = (side // latent_factor(self.autoencoder) for side in images.shape[-2:])
        shape = (latent_channels(self.autoencoder), height, width)
        noise = torch.stack([self._noise(number, shape) for number in batch["number"].tolist()])
        decoded, penalty_B = module(images, noise.to(images))
        error = decoded.float() - images
        loss_B: Tensor = error.abs().mean(dim=(1, 2, 3)) + error.square().mean(dim=(1, 2, 3)) + penalty_B
        return loss_B + COLOUR_WEIGHT * batch["coloured"] * self._wrong_colour(decoded.float(), batch["pictures"])

    def validation(self) -> dict[str, float]:
        """See `round_trip_quality`, over validation objects; nothing when there are none."""
        if self._validation is None:
            return {}
        return round_trip_quality(self.autoencoder, self._validation, self.colours)

    def pictures(self) -> dict[str, np.ndarray]:
        """Renders and colour maps beside what became of them, a row an object."""
        source = self._validation or self._examples.objects
        rows = []
        for number in range(min(PICTURES, source.count)):
            images = source[number]["images"]
            pair = torch.stack([images["whole"], images["colours"]]).to(self.autoencoder.device)
            back = to_images(self.autoencoder, to_latents(self.autoencoder, pair))
            rows.append(torch.cat([pair[0], back[0], pair[1], back[1]], dim=-1))
        drawn = torch.cat(rows, dim=-2).permute(1, 2, 0).cpu()
        return {"samples": (drawn * 255).round().byte().numpy()}

    def _wrong_colour(self, decoded: Tensor, pictures: Tensor) -> Tensor:
        """The cross-entropy (B,) of each pixel's reference colour; without meaning where there are no colour maps."""
        colours_Q3 = reference_colours(self.colours).to(decoded)
        apart = (decoded / 2 + 0.5).unsqueeze(1) - colours_Q3[:, :, None, None]
        scores_BQHW = -COLOUR_SHARPNESS * apart.square().sum(dim=2)
        entropy = F.cross_entropy(scores_BQHW, decode_colours(pictures, self.colours), reduction="none")
        return entropy.mean(dim=(1, 2))

    def _noise(self, number: int, shape: Sequence[int]) -> Tensor:
        """Standard normal for AutoencoderKL; of a random deviation otherwise, 0 to 2 LATENT_NOISE."""
        state = int(np.random.SeedSequence((self.seed, number, NOISE)).generate_state(1, np.uint64)[0])
        generator = torch.Generator().manual_seed(state)
        noise = torch.randn(tuple(shape), generator=generator)
        if isinstance(self.autoencoder, AutoencoderKL):
            return noise
        return noise * 2 * LATENT_NOISE * torch.rand((), generator=generator)


@torch.no_grad()
def round_trip_quality(
    autoencoder: Autoencoder, examples: Examples, colours: int, latent_noise: float = 0.0
) -> dict[str, float]:
    """What a round trip through the latents leaves of up to HELD_OUT grids and their colour maps.

    `examples` are of the task `segment`. `psnr` in dB, the mean over grids of whole objects; `pixels` and
    `part_pixels`, the shares of all pixels and of the parts' whose colour still decodes to their own; `loss`, the mean
    squared error of grids in [0, 1], for the loss curve. `latent_noise` is the deviation of noise on the latents.
    """
    generator = torch.Generator().manual_seed(0)
    psnr, errors, right, right_parts, parts, pixels = [], [], 0, 0, 0, 0
    for number in range(min(HELD_OUT, examples.count)):
        images = examples[number]["images"]
        pair = torch.stack([images["whole"], images["colours"]]).to(autoencoder.device)
        latents = to_latents(autoencoder, pair)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        back = to_images(autoencoder, latents + latent_noise * noise)
        error = F.mse_loss(back[0], pair[0]).item()
        errors.append(error)
        psnr.append(-10 * np.log10(max(error, 1e-10)))
        labels, decoded = decode_colours(pair[1], colours), decode_colours(back[1], colours)
        right += int((labels == decoded).sum())
        right_parts += int(((labels == decoded) & (labels > 0)).sum())
        parts += int((labels > 0).sum())
        pixels += labels.numel()
    return {
        "loss": float(np.mean(errors)),
        "psnr": float(np.mean(psnr)),
        "pixels": right / pixels,
        "part_pixels": right_parts / max(1, parts),
    }


def _edges(picture: Tensor) -> Tensor:
    """Pixels (H, W) of a picture (3, H, W) that are unlike the one below or to the right."""
    below = (picture.diff(dim=1, append=picture[:, -1:]) != 0).any(dim=0)
    right = (picture.diff(dim=2, append=picture[:, :, -1:]) != 0).any(dim=0)
    return below | right


def _crop(picture: Tensor, side: int, shown: Tensor, draws: np.random.Generator) -> Tensor:
    """A square of a picture (3, H, W) that has in it one of the pixels `shown` (H, W), if there are any."""
    height, width = picture.shape[-2:]
    places = shown.nonzero()
    y, x = places[draws.integers(len(places))].tolist() if len(places) else draws.integers((height, width)).tolist()
    top, left = (int(place - draws.integers(side)) for place in (y, x))
    top, left = min(max(top, 0), height - side), min(max(left, 0), width - side)
    return picture[:, top : top + side, left : left + side]
