"""The local vision LLaMA: the real Mllama classes, a few thousand weights."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

from pipeline.captions.backend import NameRequest, Subject, UnifyRequest
from pipeline.captions.mllama import MllamaBackend
from pipeline.captions.object_captions import caption_object
from pipeline.errors import ObjectFailed, UserError
from tests.captioned import captions_params, table_task

WORDS = ["a", "leg", "table", "wooden", "white", "brown", "of", "the", "top", "small", "round", "long"]
ANSWER = "a small white leg"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mllama model and its processor as `save_pretrained` leaves them, with random weights."""
    path = tmp_path_factory.mktemp("models") / "tiny-mllama"
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    vocabulary = {word: index for index, word in enumerate([*special, *WORDS, "<|image|>"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>",
        additional_special_tokens=["<|image|>"],
    )  # fmt: skip
    images = MllamaImageProcessor(size={"height": 56, "width": 56}, max_image_tiles=2)
    MllamaProcessor(images, tokenizer, chat_template=CHAT_TEMPLATE).save_pretrained(path)
    vision = MllamaVisionConfig(
        hidden_size=16, num_hidden_layers=1, num_global_layers=1, attention_heads=2, intermediate_size=32,
        image_size=56, patch_size=14, vision_output_dim=32, intermediate_layers_indices=[0], max_num_tiles=2,
        supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]],
    )  # fmt: skip
    text = MllamaTextConfig(
        vocab_size=len(vocabulary) - 1, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, intermediate_size=32, cross_attention_layers=[1], pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    torch.manual_seed(0)
    config = MllamaConfig(vision_config=vision, text_config=text, image_token_index=vocabulary["<|image|>"])
    model = MllamaForConditionalGeneration(config)
    teach(model, torch.tensor([vocabulary[word] for word in (*ANSWER.split(), "<eos>")]))
    model.save_pretrained(path)
    return path


def teach(model: MllamaForConditionalGeneration, answer: torch.Tensor) -> None:
    """Let the model say `answer` after whatever it is asked: weights at random would talk without end."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(80):
        question = torch.randint(3, len(WORDS) + 4, (4, 10 + step))
        question[torch.rand(question.shape) < 0.8] = 3  # most words of a question are unknown to it
        question[:, -1] = 3
        ids = torch.cat([question, answer.expand(4, -1)], dim=1)
        labels = torch.cat([torch.full_like(question, -100), answer.expand(4, -1)], dim=1)
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()


def test_every_view_and_summary_is_the_models(folder: Path, tmp_path: Path) -> None:
    params = captions_params(backend="mllama", mllama={"path": str(folder)}, max_words=6)
    rows = caption_object(table_task(tmp_path, params))
    assert len(rows["views"]) == 10
    told = {(row["caption"], row["backend"]) for row in (*rows["views"], *rows["captions"][:3])}
    assert told == {(ANSWER, "mllama/tiny-mllama")}
    assert rows["captions"][3]["backend"] == "template"


def test_a_name_is_the_models_without_its_article(folder: Path) -> None:
    backend = MllamaBackend(captions_params(mllama={"path": str(folder)}).mllama, max_words=6)
    assert backend.names([NameRequest(Subject("Oak table", "", "", "", ()), "A white bar.")]) == ["small white leg"]


def test_endless_talk_is_the_objects_failure(folder: Path) -> None:
    backend = MllamaBackend(captions_params(mllama={"path": str(folder)}).mllama, max_words=1)
    with pytest.raises(ObjectFailed, match="tiny-mllama answered with 4 words, asked for at most 1"):
        backend.unify([UnifyRequest(Subject("Oak table", "Office", "leg", "", ()), ("A leg.",))])


@pytest.mark.parametrize("content", [None, "{}", '{"model_type": "llama"}', "rubbish"])
def test_a_folder_without_a_model_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"captions\.mllama\.path"):
        MllamaBackend(captions_params(mllama={"path": str(tmp_path)}).mllama, max_words=6)
