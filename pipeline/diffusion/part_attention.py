"""Attention among the parts of one object: what joint completion has beyond completion (supplement E).

Shape suffixes: B parts, L places (pixels of latents), T text tokens, C channels, H heads, D channels of a head.
"""

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn


class PartAttention(nn.Module):
    """A processor that adds to an attention to the text one of every place to the same place of the other parts.

    It stands where the text's does, after the self-attention of a transformer block, and has weights of its own. What
    it adds starts at zero. Beside the other parts a place may attend to nothing, a key and a value of zeros; so a part
    without others gets nothing added, whatever the weights. The order of the parts is of no account.

    `encoder_hidden_states` are the text tokens and, (B,), the number of each part's object: parts of one number attend
    to each other.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.text = AttnProcessor2_0()
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(channels, channels, bias=False) for _ in range(4))
        nn.init.zeros_(self.to_out.weight)

    def forward(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """The attention to the text, and that to the other parts added, (B, L, C)."""
        text_BTC, objects_B = encoder_hidden_states
        drawn_BLC: Tensor = self.text(attn, hidden_states, text_BTC, attention_mask)
        return drawn_BLC + self.to_out(self._of_others(hidden_states, objects_B))

    def _of_others(self, hidden_BLC: Tensor, objects_B: Tensor) -> Tensor:
        def split(layer: nn.Linear) -> Tensor:
            values_LHBD: Tensor = layer(hidden_BLC).unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3)
            return values_LHBD

        query_LHBD, key_LHBD, value_LHBD = split(self.to_q), split(self.to_k), split(self.to_v)
        nothing_LH1D = torch.zeros_like(key_LHBD[:, :, :1])
        alone_BB = torch.eye(len(objects_B), dtype=torch.bool, device=objects_B.device)
        others_BB = (objects_B[:, None] == objects_B) & ~alone_BB
        found_LHBD = F.scaled_dot_product_attention(
            query_LHBD,
            torch.cat((key_LHBD, nothing_LH1D), dim=2),
            torch.cat((value_LHBD, nothing_LH1D), dim=2),
            attn_mask=F.pad(others_BB, (0, 1), value=True),
        )
        return found_LHBD.permute(2, 0, 1, 3).flatten(2)
