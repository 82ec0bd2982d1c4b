"""The vision transformer of InstantMesh: DINO's ViT (Caron et al. 2021), whose layers a camera modulates.

Modules are named as the keys of the published weights are.

Shape suffixes: N views, L tokens, C channels, D camera numbers, H W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CAMERA_NUMBERS = 16
"""A pose in three rows of four, focal lengths and middle over the picture's side."""


class _Projections(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.output, self.heads = _Projections(width), _Dense(width, width), heads

    def forward(self, tokens_NLC: Tensor) -> Tensor:
        parts = (self.attention.query, self.attention.key, self.attention.value)
        query, key, value = (part(tokens_NLC).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        result: Tensor = self.output.dense(attended)
        return result


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)


class _EncoderLayer(nn.Module):
    """Attention and an MLP, whose inputs the camera shifts and scales."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = _SelfAttention(width, heads)
        self.intermediate, self.output = _Dense(width, 4 * width), _Dense(4 * width, width)
        self.layernorm_before, self.layernorm_after = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 4 * width))

    def forward(self, tokens_NLC: Tensor, camera_NC: Tensor) -> Tensor:
        shift, scale, shift_mlp, scale_mlp = self.adaLN_modulation(camera_NC)[:, None].chunk(4, dim=2)
        tokens_NLC = tokens_NLC + self.attention(self.layernorm_before(tokens_NLC) * (1 + scale) + shift)
        inner = self.intermediate.dense(self.layernorm_after(tokens_NLC) * (1 + scale_mlp) + shift_mlp)
        return tokens_NLC + self.output.dense(F.gelu(inner))


class _Embeddings(nn.Module):
    def __init__(self, width: int, patch: int, positions: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + positions**2, width))
        self.patch_embeddings = nn.Module()
        self.patch_embeddings.projection = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, views_N3HW: Tensor) -> Tensor:
        patches_NCHW = self.patch_embeddings.projection(views_N3HW)
        tokens_NLC = torch.cat((self.cls_token.expand(len(views_N3HW), -1, -1), patches_NCHW.flatten(2).mT), dim=1)
        return tokens_NLC + self._positions(patches_NCHW.shape[2])

    def _positions(self, side: int) -> Tensor:
        """Enlarged by a factor, as DINO does it, and not to a size, which would give other numbers."""
        known = round((self.position_embeddings.shape[1] - 1) ** 0.5)
        if known == side:
            return self.position_embeddings
        first, rest = self.position_embeddings.split((1, known**2), dim=1)
        square = rest.mT.unflatten(2, (known, known))
        # With this addend the size is not rounded down by chance.
        factor = (side + 0.1) / known
        enlarged = F.interpolate(square, scale_factor=(factor, factor), mode="bicubic", align_corners=False)
        return torch.cat((first, enlarged.flatten(2).mT), dim=1)


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, patch: int, positions: int) -> None:
        super().__init__()
        self.embeddings, self.encoder = _Embeddings(width, patch, positions), nn.Module()
        self.encoder.layer = nn.ModuleList(_EncoderLayer(width, heads) for _ in range(layers))
        self.layernorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, views_N3HW: Tensor, camera_NC: Tensor) -> Tensor:
        tokens_NLC = self.embeddings(views_N3HW)
        for layer in self.encoder.layer:
            tokens_NLC = layer(tokens_NLC, camera_NC)
        result: Tensor = self.layernorm(tokens_NLC)
        return result


class Encoder(nn.Module):
    """Tokens (N, L, C) of views, normalised (N, 3, H, W), with their cameras (N, CAMERA_NUMBERS)."""

    def __init__(self, width: int, layers: int, heads: int, patch: int, positions: int) -> None:
        """`positions` a side are known, and enlarged for larger views."""
        super().__init__()
        self.model = _Transformer(width, layers, heads, patch, positions)
        self.camera_embedder = nn.Sequential(nn.Linear(CAMERA_NUMBERS, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, views_N3HW: Tensor, cameras_ND: Tensor) -> Tensor:
        result: Tensor = self.model(views_N3HW, self.camera_embedder(cameras_ND))
        return result
