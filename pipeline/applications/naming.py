"""Names and captions of parts that nobody has named: the caption stage's backend looks at an object's own label map."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.assets.names import unique_names
from pipeline.captions.backend import CaptionBackend, NameRequest, Subject, ViewRequest
from pipeline.captions.names import spoken
from pipeline.captions.object_captions import load_backend
from pipeline.captions.places import place_in_views
from pipeline.captions.plain import PlainBackend
from pipeline.captions.subjects import caption_subjects, see
from pipeline.captions.template import plain_name
from pipeline.errors import ObjectFailed
from pipeline.params.captions import CaptionsParams
from pipeline.shards.scratch import scratch
from pipeline.shards.table import WHOLE
from pipeline.views.cameras import untile

HIDDEN_NAME = "hidden part"
"""Of a part that none of the four views shows."""
_ARTICLE = re.compile(r"^(?:an?|the) ", re.IGNORECASE)
_ADDITION = re.compile(
    r"[,;.](?:\s|$)|\s(?:with|that|which|who|on|in|at|made|standing|sitting|holding|wearing)\s", re.IGNORECASE
)


@dataclass(frozen=True)
class PartName:
    """What a part, or the whole object, is called."""

    name: str
    """Short; no two parts of an object have the same."""
    caption: str
    """One sentence."""
    backend: str
    """What wrote the caption, such as `smollm2-135m`, `template` or `openai/MODEL`."""


def name_parts(
    params: CaptionsParams,
    grid_rgba: np.ndarray,
    labels: np.ndarray,
    object_name: str,
    ids: Sequence[int] | None = None,
    quick: bool = False,
) -> dict[int, PartName]:
    """Names and captions of the parts `ids`, and under 0 of the whole object.

    `grid_rgba` is the object's 2x2 grid (H, W, 4) uint8 with straight alpha, `labels` its map of part ids (H, W) uint8;
    without `ids` all that are in the map. Parts are circled in red and captioned view by view as the objects of the
    tables are (supplement A.8), with their names unknown; a vision-language model is then asked for a name. The backend
    `describe` does not recognise things, so it calls a part by what it sees of it: `brown top part`. `object_name` may
    be a prompt, of which captions take the thing and leave out what it comes with; where it has no words the object is
    named too.

    Where the backend's answers are of no use, words for colour and place stand in for them, and `backend` says so.
    UserError when it can give no answer at all. `quick` leaves out the language model of `describe`, which words
    captions and has no say in names.
    """
    views, maps = untile(grid_rgba), untile(labels)
    thing = _thing(object_name)
    subjects = {WHOLE: Subject(thing, "", None, "", ())}
    for part_id in np.unique(labels[labels > 0]).tolist() if ids is None else ids:
        subjects[part_id] = Subject(thing, "", "", place_in_views(maps == part_id, maps > 0), ())
    seen = see(subjects, views, maps, params)
    try:
        plain = quick and params.backend == "describe"
        backend = PlainBackend() if plain else load_backend(params, scratch().resolve())
        told = _told(subjects, seen, backend)
    except ObjectFailed:
        told = _told(subjects, seen, PlainBackend())
    whole = told.pop(WHOLE)
    unique = unique_names(part.name for part in told.values())
    parts = {part_id: replace(part, name=name) for (part_id, part), name in zip(told.items(), unique, strict=True)}
    return {WHOLE: whole, **parts}


def _told(
    subjects: Mapping[int, Subject], seen: Mapping[int, Mapping[int, ViewRequest]], backend: CaptionBackend
) -> dict[int, PartName]:
    """What a backend says of each subject, with names that may be the same."""
    captioned = caption_subjects(subjects, seen, backend)
    asked = {
        part_id: NameRequest(subjects[part_id], captions.unified.text)
        for part_id, captions in captioned.items()
        if captions.requests and not (part_id == WHOLE and spoken(subjects[WHOLE].object_name))
    }
    names = dict(zip(asked, backend.names(list(asked.values())), strict=True))
    return {
        part_id: PartName(
            names.get(part_id) or plain_name(subjects[part_id], captions.unified.text),
            captions.unified.text,
            captions.unified.backend,
        )
        for part_id, captions in captioned.items()
    }


def _thing(object_name: str) -> str:
    """`A wooden chair with a red cushion` -> `wooden chair`."""
    return _ADDITION.split(_ARTICLE.sub("", object_name.strip()), maxsplit=1)[0].strip()
