"""Captions from any OpenAI-compatible endpoint that serves a vision LLaMA (vLLM, llama.cpp, Ollama)."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from pipeline.captions.backend import Caption, NameRequest, UnifyRequest, ViewRequest
from pipeline.captions.endpoint import Access
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
from pipeline.folders import written
from pipeline.params.captions import EndpointParams

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 60.0
LARGEST_ANSWER = 1 << 20
"""Bytes; a caption takes hundreds."""
KEPT = "finished captions are kept"


class OpenAIBackend:
    """Sends prompt pictures as data URIs, at most `endpoint.concurrency` requests at a time from one process.

    Every answer is kept in the folder `cache` under the hash of model, text and picture, so nothing is sent twice.
    Where it may send them, and with which key, is no parameter: see `Access`.
    """

    def __init__(self, endpoint: EndpointParams, max_words: int, cache: Path, first_wait_s: float = 1.0) -> None:
        """UserError when the endpoint's host is not allowed."""
        self.access = Access.of(endpoint.base_url)
        self.endpoint = endpoint
        self.max_words = max_words
        self.cache = cache
        self.first_wait_s = first_wait_s
        self.name = f"openai/{endpoint.model}"

    def describe_views(self, requests: Sequence[ViewRequest]) -> list[Caption]:
        """One request a view: the question and the prompt picture."""

        def content(request: ViewRequest) -> list[dict[str, Any]]:
            picture = "data:image/png;base64," + base64.b64encode(request.prompt).decode()
            text = view_question(request.subject, self.max_words)
            return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": picture}}]

        return self._side_by_side([content(request) for request in requests])

    def unify(self, requests: Sequence[UnifyRequest]) -> list[Caption]:
        """One request a subject, text only."""
        return self._side_by_side([summary_question(request, self.max_words) for request in requests])

    def names(self, requests: Sequence[NameRequest]) -> list[str]:
        """One request a subject, text only."""
        return [read_name(answer.text) for answer in self._side_by_side([name_question(one) for one in requests])]

    def _side_by_side(self, contents: Sequence[Any]) -> list[Caption]:
        """The answers in order. After the first error nothing more is sent, and what is under way is still kept."""

        async def ask_all() -> list[Caption | BaseException | None]:
            slots, errors = asyncio.Semaphore(self.endpoint.concurrency), list[BaseException]()

            async def attempt(content: Any) -> Caption | None:
                async with slots:
                    try:
                        return await self._caption(content, client) if not errors else None
                    except BaseException as error:
                        errors.append(error)
                        raise

            async with self.access.client() as client:
                return await asyncio.gather(*map(attempt, contents), return_exceptions=True)

        answers = _run(ask_all)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if isinstance(answer, Caption)]

    async def _caption(self, content: Any, client: httpx.AsyncClient) -> Caption:
        body = {
            "model": self.endpoint.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": TOKENS_PER_WORD * TOLERANCE * self.max_words,
        }
        path = self._cache_path(body)
        text = self._kept(path)
        if text is None:
            text = self._read(await self._post(body, client))
            with written(path) as partial:
                partial.write_text(json.dumps({"model": self.endpoint.model, "caption": text}), encoding="utf-8")
        return Caption(text, self.name)

    def _cache_path(self, body: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        return self.cache / digest[:2] / f"{digest}.json"

    def _kept(self, path: Path) -> str | None:
        """The caption in a file of the cache; None when it is not there, damaged or of no use: it is asked for anew."""
        try:
            text = json.loads(path.read_text(encoding="utf-8"))["caption"]
            return text if self._checked(text, str(path)) == text else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError, ObjectFailed):
            return None

    async def _post(self, body: dict[str, Any], client: httpx.AsyncClient) -> str:
        """The endpoint's answer with status 200; tries again, ever more slowly, while it is busy or away."""
        for attempt in range(self.endpoint.retries + 1):
            wait = self.first_wait_s * 2**attempt
            try:
                async with asyncio.timeout(self.endpoint.timeout_s):  # from looking up the host to the last byte
                    async with client.stream("POST", self.access.url, json=body) as response:
                        text = await self._text(response)
            except TimeoutError:
                trouble = f"no whole answer within {self.endpoint.timeout_s:g} s"
            except (httpx.TransportError, httpx.DecodingError) as error:
                trouble = self.access.redacted(f"{type(error).__name__}: {error}".removesuffix(": "))
            else:
                if response.status_code == httpx.codes.OK:
                    return text
                trouble = f"status {response.status_code}: {self._excerpt(text)}"
                if response.status_code not in RETRIED:
                    raise UserError(
                        f"The endpoint {self.access.url} refuses the request for the model {self.endpoint.model!r} "
                        f"with {trouble}; check captions.endpoint and its API key; {KEPT}."
                    )
                wait = max(wait, _retry_after(response))
            if attempt < self.endpoint.retries:
                await asyncio.sleep(min(wait, LONGEST_WAIT_S))
        raise UserError(
            f"The endpoint {self.access.url} gives no answer after {self.endpoint.retries + 1} tries ({trouble}); "
            f"start it or change captions.endpoint; {KEPT}."
        )

    async def _text(self, response: httpx.Response) -> str:
        """All that the endpoint sends, or its beginning when it is no caption for its length alone."""
        content = bytearray()
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > LARGEST_ANSWER:
                break
        return content[:LARGEST_ANSWER].decode(errors="replace")

    def _read(self, text: str) -> str:
        try:
            message = json.loads(text)["choices"][0]["message"]
            content, refusal = message["content"], message.get("refusal")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise UserError(
                f"What answers at {self.access.url} is no chat completion: {self._excerpt(text)}; check "
                f"captions.endpoint.base_url; {KEPT}."
            ) from None
        source = f"the endpoint {self.access.url}"
        if refusal:
            raise ObjectFailed(f"{source} refused: {self._excerpt(str(refusal))}")
        return self._checked(content, source)

    def _checked(self, content: Any, source: str) -> str:
        """A caption that can be written anywhere. ObjectFailed when it is of no use."""
        if not isinstance(content, str):
            raise ObjectFailed(f"{source} gave an empty answer: {self._excerpt(repr(content))}")
        # A lone half of a UTF-16 pair, which JSON may hold, cannot be written as UTF-8.
        whole = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if self.access.is_told_in(whole):
            raise ObjectFailed(f"{source} answered with the API key: {self._excerpt(whole)}")
        return read_answer(whole, source, self.max_words)

    def _excerpt(self, text: str) -> str:
        return repr(" ".join(self.access.redacted(text[:400]).split())[:160])


def _run(ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(ask())
    with ThreadPoolExecutor(1) as thread:  # in a notebook, whose loop is running
        return thread.submit(asyncio.run, ask()).result()


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0
