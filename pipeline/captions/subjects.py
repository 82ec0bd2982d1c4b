"""From an object's views to captions of it and its parts, for objects of the tables and for a user's own (A.8)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.captions.backend import Caption, CaptionBackend, Subject, UnifyRequest, ViewRequest
from pipeline.captions.prompts import prompt_picture
from pipeline.captions.template import template
from pipeline.params.captions import CaptionsParams
from pipeline.shards.table import WHOLE


@dataclass(frozen=True)
class Captioned:
    """A subject's views and captions."""

    requests: Mapping[int, ViewRequest]
    """By the number of the view, 0..3; none for a subject that is in sight in no view."""
    views: Mapping[int, Caption]
    """Those of the views."""
    unified: Caption
    """The one of the subject; worded from its name by the template where no view shows it, whatever the backend."""


def see(
    subjects: Mapping[int, Subject], views: np.ndarray, labels: np.ndarray, params: CaptionsParams
) -> dict[int, dict[int, ViewRequest]]:
    """The views in which each subject is in sight, by part id.

    `views` are (4, V, V, 4) uint8 with straight alpha, `labels` the part ids (4, V, V) uint8. A view counts when at
    least `min_visible` of its pixels show the subject.
    """
    seen: dict[int, dict[int, ViewRequest]] = {}
    for part_id, subject in subjects.items():
        masks = labels == part_id if part_id != WHOLE else labels > 0
        numbers = np.flatnonzero(masks.mean(axis=(1, 2)) >= params.min_visible).tolist()
        seen[part_id] = {view: _view_request(subject, views[view], masks[view], params) for view in numbers}
    return seen


def caption_subjects(
    subjects: Mapping[int, Subject], seen: Mapping[int, Mapping[int, ViewRequest]], backend: CaptionBackend
) -> dict[int, Captioned]:
    """Captions of all subjects by part id: per view first, then a single one (supplement A.8).

    Raises ObjectFailed when an answer is of no use, UserError when the backend can give no answer at all.
    """
    keys = [(part_id, view) for part_id, requests in seen.items() for view in requests]
    answers = backend.describe_views([seen[part_id][view] for part_id, view in keys])
    described = dict(zip(keys, answers, strict=True))
    views = {part_id: {view: described[part_id, view] for view in seen[part_id]} for part_id in subjects}
    to_unify = {
        part_id: UnifyRequest(subject, tuple(caption.text for caption in views[part_id].values()))
        for part_id, subject in subjects.items()
    }
    asked = {part_id: request for part_id, request in to_unify.items() if request.views}
    unified = dict(zip(asked, backend.unify(list(asked.values())), strict=True))
    return {
        part_id: Captioned(seen[part_id], views[part_id], unified.get(part_id) or template(request))
        for part_id, request in to_unify.items()
    }


def _view_request(subject: Subject, view: np.ndarray, mask: np.ndarray, params: CaptionsParams) -> ViewRequest:
    circled = mask if subject.part_name is not None else None
    draw = partial(prompt_picture, view, circled, params.prompt_size, params.ring_width, params.ring_margin, params.dim)
    return ViewRequest(subject, view, mask, draw)
