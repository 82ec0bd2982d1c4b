"""Captions from any OpenAI-compatible endpoint that serves a vision LLaMA (vLLM, llama.cpp, Ollama)."""

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

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
from pipeline.errors import ObjectFailed, UserError
from pipeline.params.captions import EndpointParams

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 60.0
KEPT = "finished captions are kept"


class OpenAIBackend:
    """Sends prompt pictures as data URIs, at most `endpoint.concurrency` requests at a time from one process.

    Every answer is kept in the folder `cache` under the hash of model, text and picture, so nothing is sent twice.
    """

    def __init__(self, endpoint: EndpointParams, max_words: int, cache: Path, first_wait_s: float = 1.0) -> None:
        key = api_key(endpoint)
        self.endpoint = endpoint
        self.max_words = max_words
        self.cache = cache
        self.first_wait_s = first_wait_s
        self.name = f"openai/{endpoint.model}"
        self.client = httpx.Client(
            timeout=endpoint.timeout_s, headers={"Authorization": f"Bearer {key}"} if key else {}
        )

    def describe_views(self, requests: Sequence[ViewRequest]) -> list[Caption]:
        """One request a view: the question and the prompt picture."""

        def ask(request: ViewRequest) -> Caption:
            picture = "data:image/png;base64," + base64.b64encode(request.prompt).decode()
            text = view_question(request.subject, self.max_words)
            content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": picture}}]
            return self._caption(content)

        return self._side_by_side(ask, requests)

    def unify(self, requests: Sequence[UnifyRequest]) -> list[Caption]:
        """One request a subject, text only."""
        return self._side_by_side(lambda request: self._caption(summary_question(request, self.max_words)), requests)

    def names(self, requests: Sequence[NameRequest]) -> list[str]:
        """One request a subject, text only."""
        answers = self._side_by_side(lambda request: self._caption(name_question(request)), requests)
        return [read_name(answer.text) for answer in answers]

    def _side_by_side(self, ask: Callable[[Any], Caption], requests: Sequence[Any]) -> list[Caption]:
        """The answers in order. After the first error nothing more is sent, and what is under way is still kept."""
        failed = threading.Event()

        def attempt(request: Any) -> Caption:
            if failed.is_set():
                raise CancelledError
            try:
                return ask(request)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(self.endpoint.concurrency) as pool:
            futures = [pool.submit(attempt, request) for request in requests]
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in errors:
            if not isinstance(error, CancelledError):
                raise error
        return [future.result() for future in futures]

    def _caption(self, content: Any) -> Caption:
        body = {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": TOKENS_PER_WORD * TOLERANCE * self.max_words,
        }
        path = self._cache_path(body)
        if not path.exists():
            text = self._read(self._post(body))
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.partial")
            partial.write_text(json.dumps({"model": self.endpoint.model, "caption": text}), encoding="utf-8")
            partial.replace(path)
        return Caption(json.loads(path.read_text(encoding="utf-8"))["caption"], self.name)

    def _cache_path(self, body: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        return self.cache / digest[:2] / f"{digest}.json"

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        """The endpoint's answer with status 200; tries again, ever more slowly, while it is busy or away."""
        url = f"{self.endpoint.base_url.rstrip('/')}/chat/completions"
        for attempt in range(self.endpoint.retries + 1):
            wait = self.first_wait_s * 2**attempt
            try:
                response = self.client.post(url, json=body)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                base_url = self.endpoint.base_url
                raise UserError(f"captions.endpoint.base_url is {base_url!r}: {str(error).rstrip('.')}.") from None
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            else:
                if response.status_code == httpx.codes.OK:
                    return response
                trouble = f"status {response.status_code}: {_excerpt(response.text)}"
                if response.status_code not in RETRIED:
                    raise UserError(
                        f"The endpoint {url} refuses the request for the model {self.endpoint.model!r} with {trouble}; "
                        f"check captions.endpoint and its API key; {KEPT}."
                    )
                wait = max(wait, _retry_after(response))
            if attempt < self.endpoint.retries:
                time.sleep(min(wait, LONGEST_WAIT_S))
        raise UserError(
            f"The endpoint {url} gives no answer after {self.endpoint.retries + 1} tries ({trouble}); start it or "
            f"change captions.endpoint; {KEPT}."
        )

    def _read(self, response: httpx.Response) -> str:
        source = f"the endpoint {response.url}"
        try:
            choice = response.json()["choices"][0]
            message = choice["message"]
            content, refusal = message["content"], message.get("refusal")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise UserError(
                f"What answers at {response.url} is no chat completion: {_excerpt(response.text)}; check "
                f"captions.endpoint.base_url; {KEPT}."
            ) from None
        if refusal:
            raise ObjectFailed(f"{source} refused: {_excerpt(str(refusal))}")
        if not isinstance(content, str):
            raise ObjectFailed(f"{source} gave an empty answer: {content!r}")
        return read_answer(content, source, self.max_words)


def api_key(endpoint: EndpointParams) -> str | None:
    """The key in the environment variable that the endpoint names, if it names one; UserError when that is unset."""
    name = endpoint.api_key_env
    if name and not os.environ.get(name):
        raise UserError(f"captions.endpoint.api_key_env names {name}, which is not set; export it or name none.")
    return os.environ[name] if name else None


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _excerpt(text: str) -> str:
    return repr(" ".join(text[:400].split())[:160])
