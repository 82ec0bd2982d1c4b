"""Captions by a vision LLaMA of transformers (Mllama, such as Llama-3.2-11B-Vision-Instruct) in a local folder."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, MllamaForConditionalGeneration

from pipeline.captions.backend import Caption, NameRequest, UnifyRequest, ViewRequest
from pipeline.captions.questions import (
    TOKENS_PER_WORD,
    TOLERANCE,
    name_question,
    read_answer,
    read_name,
    summary_question,
    view_question,
)
from pipeline.errors import UserError
from pipeline.params.captions import MllamaParams


class MllamaBackend:
    """Greedy answers of a model in a folder, as `save_pretrained` of Mllama and of its processor leave it."""

    def __init__(self, params: MllamaParams, max_words: int) -> None:
        folder = Path(params.path)
        if not (folder / "config.json").is_file():
            raise UserError(
                f"captions.mllama.path is {params.path!r}, which holds no config.json; give the folder of a "
                "Mllama model, or choose another captions.backend."
            )
        self.max_words = max_words
        self.name = f"mllama/{folder.resolve().name}"
        try:
            self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model = MllamaForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=params.dtype)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"captions.mllama.path {params.path!r} holds no Mllama model: {reason}.") from None
        self.model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def describe_views(self, requests: Sequence[ViewRequest]) -> list[Caption]:
        """The model sees one prompt picture at a time: its memory, not the number of views, is the limit."""
        captions = []
        for request in requests:
            with Image.open(io.BytesIO(request.prompt)) as image:
                picture = image.convert("RGB")
            captions.append(self._caption(view_question(request.subject, self.max_words), picture))
        return captions

    def unify(self, requests: Sequence[UnifyRequest]) -> list[Caption]:
        """The same model, without a picture."""
        return [self._caption(summary_question(request, self.max_words), None) for request in requests]

    def names(self, requests: Sequence[NameRequest]) -> list[str]:
        """The same model, without a picture."""
        return [read_name(self._caption(name_question(request), None).text) for request in requests]

    @torch.inference_mode()
    def _caption(self, question: str, picture: Image.Image | None) -> Caption:
        content = [{"type": "image"}] if picture is not None else []
        content.append({"type": "text", "text": question})
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = self.processor(images=picture, text=text, add_special_tokens=False, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        limit = TOKENS_PER_WORD * TOLERANCE * self.max_words
        written = self.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
        answer = self.processor.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return Caption(read_answer(answer, self.name, self.max_words), self.name)
