"""Tiny CLIPs of random weights, in the files and with the classes of real ones."""

from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

CHARACTERS = [chr(code) for code in range(33, 127)]
VOCABULARY = {
    token: number
    for number, token in enumerate(
        [*CHARACTERS, *(f"{character}</w>" for character in CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    )
}
MAX_TOKENS = 24


def tokenizer() -> CLIPTokenizer:
    """Every character is a token."""
    return CLIPTokenizer(vocab=VOCABULARY, merges=[], model_max_length=MAX_TOKENS)


def text_config(width: int = 32) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        intermediate_size=40,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=20,
        bos_token_id=VOCABULARY["<|startoftext|>"],
        eos_token_id=VOCABULARY["<|endoftext|>"],
    )


def text_model(width: int = 32) -> CLIPTextModel:
    torch.manual_seed(0)
    return CLIPTextModel(text_config(width)).eval()


def text_model_with_projection(width: int) -> CLIPTextModelWithProjection:
    torch.manual_seed(1)
    return CLIPTextModelWithProjection(text_config(width)).eval()


def save_clip(folder: Path) -> CLIPModel:
    """Write a whole CLIP, text and vision, with its tokeniser."""
    vision = {
        "hidden_size": 48,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 30,
        "patch_size": 10,
    }
    torch.manual_seed(2)
    clip = CLIPModel(CLIPConfig(text_config=text_config().to_dict(), vision_config=vision, projection_dim=20)).eval()
    clip.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return clip
