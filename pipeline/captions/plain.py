"""The backend that needs no download and no network: views described from names, colours and places."""

from collections.abc import Sequence

from pipeline.captions.backend import Caption, NameRequest, UnifyRequest, ViewRequest
from pipeline.captions.colours import colour_phrase
from pipeline.captions.places import side_in_view
from pipeline.captions.template import TEMPLATE, in_this_view, plain_name, sentence, template
from pipeline.views.cameras import shown


class PlainBackend:
    """Sees the pixels' colours and places, believes the artist's names, and has no language model."""

    def describe_views(self, requests: Sequence[ViewRequest]) -> list[Caption]:
        """`The brown leg at the bottom front of an oak table, on the left in this view.`"""
        return [Caption(describe_view(request), TEMPLATE) for request in requests]

    def unify(self, requests: Sequence[UnifyRequest]) -> list[Caption]:
        """The commonest view caption."""
        return [template(request) for request in requests]

    def names(self, requests: Sequence[NameRequest]) -> list[str]:
        """`brown top part`: it knows colours and places, and no more than that."""
        return [plain_name(request.subject, request.caption) for request in requests]


def describe_view(request: ViewRequest) -> str:
    """The caption of one view: place in the object from the part's box, colour and side from its mask in the view."""
    silhouette = shown(request.view)
    seen = request.mask & silhouette
    colour = colour_phrase(request.view[seen if seen.any() else request.mask][:, :3])
    side = side_in_view(request.mask, silhouette) if request.subject.part_name is not None else ""
    return in_this_view(sentence(request.subject, colour), side)
