"""Parameters of the stage `captions`."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pipeline.params.base import Group, StageGroup

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


_LOOKS = "a vision model looks at the pictures, in which the part is circled in red, as in the paper (A.8)"
SIGHT = {
    "describe": "Captions by the backend `describe`: no model looks at the circled pictures. The captions word the "
    "artists' names, the colours of the pixels and the places of the parts; with the backends `openai` and `mllama` "
    "a vision model looks.",
    "openai": f"Captions by the backend `openai`: {_LOOKS}.",
    "mllama": f"Captions by the backend `mllama`: {_LOOKS}.",
}
"""What each backend sees of what it captions."""


class EndpointParams(Group):
    """An OpenAI-compatible endpoint (vLLM, llama.cpp, Ollama), for the backend `openai`.

    Its key, and which hosts may be asked, stand in the environment: see `pipeline.captions.endpoint`.
    """

    gone: ClassVar[dict[str, str]] = {
        "api_key_env": "take it out, and export the key as PARTGEN_CAPTIONS_API_KEY if the endpoint wants one"
    }

    base_url: str
    """Up to and without `/chat/completions`, such as http://localhost:8000/v1."""
    model: str
    """Name of the vision LLaMA under which the endpoint serves it."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds to wait for the whole of one answer."""
    retries: Annotated[int, Field(ge=0)]
    """Further tries when the endpoint is busy (429), fails (5xx) or is away, after 1, 2, 4 ... seconds."""
    concurrency: Count
    """Requests under way at a time from ONE worker process; PARTGEN_WORKERS times as many may reach the endpoint."""


class MllamaParams(Group):
    """A vision LLaMA in a local folder, for the backend `mllama`."""

    path: str
    """Folder with the model and its processor, as `save_pretrained` leaves them."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    """Type of the weights in memory; `auto`: as stored."""


class CaptionsParams(StageGroup):
    """Prompt pictures, the backend, and its limits (supplement A.8)."""

    name: ClassVar[str] = "captions"
    aside = frozenset({"endpoint", "mllama", "max_failed_share", "timeout_s"})

    backend: Literal["describe", "openai", "mllama"]
    """`describe`: the artist's names, colours and places, worded by SmolLM2-135M; needs no download, and no model
    looks at the pictures.
    `openai`: a vision LLaMA behind `endpoint`. `mllama`: a vision LLaMA in this process, see `mllama`."""
    max_words: Count
    """Words that a caption should have at most."""
    min_visible: Annotated[float, Field(gt=0, le=1)]
    """Share of a view's pixels from which on a part counts as seen in it, and is captioned from it."""
    prompt_size: Annotated[int, Field(ge=32)]
    """Pixels a side of a prompt picture; views are enlarged to it."""
    ring_width: Annotated[float, Field(gt=0, le=0.2)]
    """Thickness of the red annulus, as a share of the picture's side."""
    ring_margin: Annotated[float, Field(ge=0, le=0.5)]
    """Room between the part and the annulus, as a share of the picture's side."""
    dim: Share
    """How much white is blended over all that is not the part: 0 nothing, 1 hides it."""
    endpoint: EndpointParams
    mllama: MllamaParams
    max_failed_share: Share
    """The stage fails when a larger share of the objects does."""
    timeout_s: Annotated[float, Field(gt=0)]
    """Seconds one object may take, all its requests together."""

    @property
    def sight(self) -> str:
        """Whether a model looks at the pictures that are captioned, in a sentence for those who use the captions."""
        return SIGHT[self.backend]

    def deciding(self, *others: str) -> dict[str, Any]:
        """Of the backends, the model of the one in use: not where an endpoint is and how it is asked."""
        values = super().deciding(*others)
        if self.backend == "openai":
            values["model"] = self.endpoint.model
        if self.backend == "mllama":
            values["model"] = self.mllama.model_dump()
        return values
