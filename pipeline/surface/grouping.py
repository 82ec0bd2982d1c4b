"""The grouping model: for every pair of an object's atoms the probability that they are of one part.

A transformer over the atoms whose attention is biased by pair features, and a head over pairs; beside it the small
network that says how many parts there are.
Shape suffixes: B objects, N atoms, K points an atom, T numbers of an atom, C pair channels, D width, H heads.
"""

import json
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import NotFound
from pipeline.folders import reading
from pipeline.surface.features import PAIRS, AtomFeatures
from pipeline.surface.hierarchy import cut, hierarchy
from pipeline.surface.part_count import MOST_PARTS, PartQuality, best_cut, node_features

CONFIG, WEIGHTS = "config.json", "model.safetensors"

TOKENS = 3 + 3 + 3 + 6 + 6 + 1
"""Channels of an atom: centre, standard deviations along the axes, principal ones, normal tensor, colour, share."""


def tokens(points_BNK9: Tensor, share_BN: Tensor) -> Tensor:
    """(B, N, TOKENS) of atoms' points; what the turned or stretched points say, so that both agree."""
    position, normal, lab = points_BNK9.split(3, dim=-1)
    centre = position.mean(dim=2)
    offset = position - centre[:, :, None]
    covariance = torch.einsum("bnki,bnkj->bnij", offset, offset) / position.shape[2]
    axes = torch.linalg.eigvalsh(covariance.double() + 1e-8 * torch.eye(3, dtype=torch.float64)).to(position.dtype)
    tensor = torch.einsum("bnki,bnkj->bnij", normal, normal) / position.shape[2]
    upper = torch.triu_indices(3, 3)
    return torch.cat(
        [
            centre,
            covariance.diagonal(dim1=-2, dim2=-1).sqrt(),
            axes.clamp_min(0).sqrt(),
            tensor[..., upper[0], upper[1]],
            lab.mean(dim=2),
            lab.std(dim=2),
            torch.log(share_BN + 1e-4)[..., None] / 5,
        ],
        dim=-1,
    )


class Block(nn.Module):
    """Attention among atoms, biased by what is known of pairs, and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.middle = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BND: Tensor, bias_BHNN: Tensor) -> Tensor:
        """The atoms, each with what the others told it."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(self.before(x_BND)).chunk(3, -1)
        )
        told = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_BHNN).transpose(1, 2).flatten(2)
        x_BND = x_BND + self.out(told)
        return x_BND + self.mlp(self.middle(x_BND))


class GroupingModel(nn.Module):
    """Logits (B, N, N), symmetric, that pairs of atoms are of one part."""

    def __init__(
        self, width: int = 96, layers: int = 4, heads: int = 6, pair_width: int = 48, quality_width: int = 32
    ) -> None:
        super().__init__()
        self.config = {
            "width": width,
            "layers": layers,
            "heads": heads,
            "pair_width": pair_width,
            "quality_width": quality_width,
        }
        self.enter = nn.Linear(TOKENS, width)
        self.pairs = nn.Sequential(
            nn.Linear(len(PAIRS), pair_width), nn.GELU(), nn.Linear(pair_width, pair_width), nn.GELU()
        )
        self.bias = nn.Linear(pair_width, layers * heads)
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.left, self.norm = nn.Linear(width, pair_width), nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(4 * pair_width, pair_width), nn.GELU(), nn.Linear(pair_width, 1))
        self.quality = PartQuality(quality_width)

    def save(self, folder: Path) -> None:
        """Its config and weights, into a folder that is made."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        save_file(self.state_dict(), folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What `save` wrote, without diffusers, whose import takes longer than all that this model does."""
        model = cls(**json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        model.load_state_dict(load_file(folder / WEIGHTS))
        return model.eval()

    def forward(self, tokens_BNT: Tensor, pairs_BNNC: Tensor, padding_BN: Tensor) -> Tensor:
        """`padding_BN` is true where there is no atom."""
        known = self.pairs(pairs_BNNC)
        bias = self.bias(known).movedim(-1, 1).unflatten(1, (len(self.blocks), -1))
        bias = bias.masked_fill(padding_BN[:, None, None, None, :], -1e4)
        x_BND = self.enter(tokens_BNT)
        for number, block in enumerate(self.blocks):
            x_BND = block(x_BND, bias[:, number])
        side = self.left(self.norm(x_BND))
        one, other = side[:, :, None].expand_as(known), side[:, None].expand_as(known)
        pair = torch.cat([one + other, (one - other).abs(), one * other, known], dim=-1)
        return self.head(pair)[..., 0]


@cache
def load_grouping(folder: Path) -> GroupingModel:
    """The model in a folder, read once a process; UserError when there is none, or it is damaged."""
    if not folder.is_dir():
        raise NotFound(f"There is no grouping model {folder}; run the stage `train_grouping`, or take weights/nano's.")
    with reading(folder, "model"):
        return GroupingModel.load(folder)


@torch.no_grad()
def predicted(model: GroupingModel, features: AtomFeatures) -> np.ndarray:
    """(N, N) probabilities of pairs of one object's atoms."""
    device = next(model.parameters()).device
    points, share, pairs = (
        torch.from_numpy(value)[None].to(device)
        for value in (features.points_NK9, features.share_N, features.pairs_NNC)
    )
    logits = model(tokens(points, share), pairs, torch.zeros(share.shape, dtype=torch.bool, device=device))
    return np.asarray(torch.sigmoid(logits)[0].cpu().numpy(), np.float64)


@torch.no_grad()
def chosen_number(
    model: GroupingModel, probability_NN: np.ndarray, merges: np.ndarray, share_N: np.ndarray, most: int = MOST_PARTS
) -> int:
    """Into how many parts, `most` at most, a hierarchy of probabilities is cut when no number is asked for."""
    nodes = torch.from_numpy(node_features(probability_NN, merges, share_N))
    return best_cut(merges, model.quality(nodes.to(next(model.parameters()).device)).cpu().numpy(), most)


def grouped(model: GroupingModel, features: AtomFeatures) -> np.ndarray:
    """(N,) The part of every atom of one object, from 0, when no number of parts is asked for."""
    if len(features.share_N) == 1:
        return np.zeros(1, int)
    probability_NN = predicted(model, features)
    merges = hierarchy(probability_NN)
    return cut(merges, chosen_number(model, probability_NN, merges, features.share_N))
