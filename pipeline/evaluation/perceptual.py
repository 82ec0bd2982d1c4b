"""Perceptual measures of Tables 2 and 3 with weights that the user supplies: LPIPS, and a score by CLIP.

Pictures are (N, H, W, 3) in [0, 1], over white. Which LPIPS and which CLIP the paper took is not published.
"""

import pickle
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPModel

from pipeline.errors import UserError
from pipeline.evaluation.image_metrics import check_size, perceptual_distances

SMALLEST_PX = 31
"""Pictures below this have no pixels left in AlexNet's deepest layers."""


class Lpips:
    """LPIPS 0.1 with AlexNet (Zhang et al., CVPR 2018), 0 for equal pictures.

    Its own linear layers come with the package `lpips`; the AlexNet below them is torchvision's, as a file.
    """

    def __init__(self, alexnet: Path, device: torch.device | str = "cpu") -> None:
        """UserError when the file does not hold the weights of torchvision's AlexNet."""
        import lpips  # it loads torchvision, which takes seconds

        self.device = torch.device(device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks torchvision for an AlexNet in a way that is deprecated
            self.network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
        try:
            weights = torch.load(alexnet, map_location="cpu", weights_only=True)
            _copy_features(weights, self.network.net)
        except (OSError, pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"evaluate.lpips is {str(alexnet)!r}, which does not hold the weights of torchvision's AlexNet "
                f"({reason}); give the file alexnet-owt-7be5be79.pth."
            ) from None
        self.network.requires_grad_(False).to(self.device)

    def __call__(self, pictures: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The distance of each of N pictures to its target, (N,); UserError where they are too small."""
        check_size(pictures, "LPIPS", SMALLEST_PX, ", or set evaluate.lpips to null")
        return perceptual_distances(self.network, pictures, targets, self.device)


class ClipScore:
    """The cosine similarity of two pictures' embeddings by a CLIP (Radford et al., 2021), 1 for equal pictures."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """UserError when the folder holds no CLIP with its image processor."""
        try:
            if not folder.is_dir():  # transformers would ask the Hugging Face hub
                raise NotADirectoryError("no folder")
            self.model = CLIPModel.from_pretrained(folder, local_files_only=True).eval().to(torch.device(device))
            self.processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"evaluate.clip is {str(folder)!r}, which cannot be read as CLIP ({reason}); "
                "give a folder in the layout of transformers, such as openai/clip-vit-base-patch32's."
            ) from None

    def __call__(self, pictures: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The score of each of N pictures, (N,) in [-1, 1]."""
        scores: np.ndarray = (self._embedded(pictures) * self._embedded(targets)).sum(dim=-1).cpu().numpy()
        return scores

    @torch.no_grad()
    def _embedded(self, pictures: np.ndarray) -> Tensor:
        """Of length 1, (N, E)."""
        shown = [(picture * 255).round().astype(np.uint8) for picture in pictures]
        pixels = self.processor(images=shown, return_tensors="pt")["pixel_values"].to(self.model.device)
        embeddings: Tensor = self.model.get_image_features(pixel_values=pixels).pooler_output
        return nn.functional.normalize(embeddings, dim=-1)


def _copy_features(weights: dict[str, Tensor], backbone: nn.Module) -> None:
    """LPIPS keeps torchvision's layer `features.N` under `sliceK.N`."""
    places = {name: f"features.{name.partition('.')[2]}" for name in backbone.state_dict()}
    backbone.load_state_dict({name: weights[place] for name, place in places.items()})
