"""Objects made of parts out of a 3D object, a picture, a text or four views: which way each of them takes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from pipeline.applications.assemble import Frame, Scene
from pipeline.applications.behind import needs_networks
from pipeline.applications.correct import SeedPoint
from pipeline.applications.generators import (
    OnSurface,
    check_any,
    check_no_surface,
    from_views,
    made_by_program,
    of_program,
)
from pipeline.applications.inputs import INPUT, Source, checked_prompt, from_object, from_picture, from_prompt
from pipeline.applications.photo import as_read, read_picture
from pipeline.applications.result import PartObject
from pipeline.applications.session import Session
from pipeline.applications.surface import Wanted, keep_surface
from pipeline.assets.surface import Up
from pipeline.errors import Invalid, UserError
from pipeline.params.choice import Choice
from pipeline.surface.close import Close
from pipeline.surface.division import PartsFrom

Shown = Literal["original", "neural", "both"]
"""What an object is made of: the surface of its file, or what was reconstructed from four views; or the former, and
the same parts reconstructed beside it."""
Picture = str | Path | Image.Image
DREW = ("text_to_mv", "image_to_mv")
"""Models that draw the four views."""


def of_object(
    session: Session,
    path: str | Path,
    choice: Choice,
    seed: int,
    reconstructor: str | None,
    on_surface: OnSurface,
    surface: Shown = "original",
    frame: Frame = "unit",
) -> PartObject:
    """Out of a 3D object; see `PartGenPipeline.decompose`."""
    up, parts, close = on_surface.get("up", "y"), on_surface.get("parts"), on_surface.get("close", "none")
    parts_from = on_surface.get("parts_from", "model")
    kinds: dict[str, tuple[str, Any]] = {
        "The surface is": (surface, Shown),
        "Openings are closed by": (close, Close),
        "The frame is": (frame, Frame),
        "Parts are made from": (parts_from, PartsFrom),
    }
    for what, (value, kind) in kinds.items():
        if value not in get_args(kind):
            raise Invalid(f"{what} {value!r}; give {' or '.join(get_args(kind))}.")
    check_up(up)
    if surface != "neural" and replace(choice, max_parts=None) != Choice():
        raise Invalid(
            "Segmentations are chosen (--samples, --use, --runs, --seed-point, --min-part-pixels) with the surface "
            "`neural`; leave that out, or add --surface neural."
        )
    if surface == "neural":
        if (parts, parts_from, close) != (None, "model", "none"):
            raise Invalid(
                "--parts, --parts-from and --close need the surface `original` or `both`; leave out --surface "
                "neural, or these."
            )
        scene = replace(session.begin(choice, reconstructor), frame=frame)
        return _of_grid(session, drawn_object(session, path, up), choice, seed, "decompose", scene)
    choice.params(session.settings.segment)
    scene = replace(session.scene(reconstructor), frame=frame)
    wanted = Wanted(parts, parts_from, choice.max_parts, close, surface, seed)
    if needs_networks(close, surface):
        session.require_completion(scene)
    source = drawn_object(session, path, up)
    return session.allowed(keep_surface(source, wanted, session.models, session.settings, scene))


def of_picture(
    session: Session,
    image: Picture | None,
    views: Sequence[Picture] | None,
    choice: Choice,
    seed: int,
    reconstructor: str | None,
    on_surface: OnSurface,
) -> PartObject:
    """Out of a picture or four views; see `PartGenPipeline.from_image`."""
    if (image is None) == (views is None):
        raise Invalid("Give a picture of the object or four views of it, one of both.")
    if views is not None:
        check_no_surface(on_surface)
        return _of_views(session, "from-image", views, {"kind": "image"}, choice, seed, reconstructor)
    assert image is not None
    if session.settings.generate.command is not None:
        called = "" if isinstance(image, Image.Image) else Path(image).name
        read = as_read(image, "The picture") if isinstance(image, Image.Image) else read_picture(Path(image))
        origin = {"kind": "image", "file": called}
        given = session.allowed(read)
        return _by_program(session, "from-image", given, origin, choice, seed, reconstructor, on_surface)
    from pipeline.diffusion.pipelines import ImageToMultiViewPipeline

    check_no_surface(on_surface)
    scene = session.begin(choice, reconstructor, ImageToMultiViewPipeline)
    source = from_picture(image, session.models, seed, session.allowed)
    return _of_grid(session, source, choice, seed, "from-image", scene)


def of_text(
    session: Session,
    prompt: str,
    views: Sequence[Picture] | None,
    choice: Choice,
    seed: int,
    reconstructor: str | None,
    on_surface: OnSurface,
) -> PartObject:
    """Out of a text; see `PartGenPipeline.from_text`."""
    text = session.allowed(checked_prompt(prompt))
    origin = {"kind": "text", "prompt": text}
    if views is not None:
        check_no_surface(on_surface)
        return _of_views(session, "from-text", views, origin, choice, seed, reconstructor)
    if session.settings.generate.command is not None:
        return _by_program(session, "from-text", text, origin, choice, seed, reconstructor, on_surface)
    from pipeline.diffusion.pipelines import TextToMultiViewPipeline

    check_no_surface(on_surface)
    scene = session.begin(choice, reconstructor, TextToMultiViewPipeline)
    source = from_prompt(text, session.models, seed)
    return _of_grid(session, source, choice, seed, "from-text", scene)


def segmented_anew(
    session: Session, result: PartObject, point: SeedPoint, seed: int, reconstructor: str | None
) -> PartObject:
    """A result's four views segmented once more, for the part at a point; all the rest is one part."""
    x, y, view = point
    choice = Choice(seed_point=(x, y), view=view)
    made = _once_more(session, result, choice, seed, reconstructor, "take-out")
    models = {**result.models, **made.models}
    return replace(made, caption=result.caption, models=models, history=[*result.history, *made.history])


def with_segmentation(session: Session, result: PartObject, use: int) -> PartObject:
    """A result made of another of the segmentations that it keeps; see `PartGenPipeline.choose`."""
    entry, count = result.history[-1], len(result.segmentations)
    if "choice" not in entry:
        raise Invalid(f"{result.name} was changed since it was segmented; undo that first, or begin with --use {use}.")
    if not 1 <= use <= count:
        raise Invalid(f"{result.name} keeps {count} segmentations, and none with the number {use}; see --samples.")
    asked = entry["choice"]
    point = asked["seed_point"] and tuple(asked["seed_point"])
    choice = Choice(**{**asked, "use": use, "seed_point": point})
    reconstructor = result.settings["reconstruct"]["reconstructor"]
    made = _once_more(session, result, choice, entry["seed"], reconstructor, entry["command"])
    if not np.array_equal(made.segmentations[use - 1].labels, result.segmentations[use - 1].labels):
        raise UserError(
            f"{result.name} was segmented by other models or parameters than these; begin with --use {use}."
        )
    return replace(made, history=[*result.history[:-1], *made.history])


def _once_more(
    session: Session, result: PartObject, choice: Choice, seed: int, reconstructor: str | None, command: str
) -> PartObject:
    """Out of the four views that a result keeps."""
    scene = replace(session.begin(choice, reconstructor), frame=result.settings.get("frame", "unit"))
    origin, remarks = result.origin, [one for one in result.diagnostics if one.kind == INPUT]
    subject = origin.get("prompt") or ("" if origin["kind"] == "image" else result.name)
    drew = tuple(name for name in DREW if name in result.models)
    source = Source(result.name, subject, result.grid, origin, result.notice, drew, remarks, result.picture)
    return _of_grid(session, source, choice, seed, command, scene)


def drawn_object(session: Session, path: str | Path, up: Up, turn: Sequence[float] = (0, 0, 0)) -> Source:
    """A 3D object's pieces and its four views; see `from_object`."""
    return from_object(Path(path), session.settings.assets, session.settings.render, session.models, up, turn)


def check_up(up: str) -> None:
    """Invalid when it is no axis that may point up."""
    if up not in get_args(Up):
        raise Invalid(f"The axis that points up is {up!r}; give {' or '.join(get_args(Up))}.")


def _of_grid(session: Session, source: Source, choice: Choice, seed: int, command: str, scene: Scene) -> PartObject:
    from pipeline.applications.decompose import take_apart

    return session.allowed(take_apart(source, choice, seed, command, session.models, session.settings, scene))


def _of_views(
    session: Session,
    command: str,
    views: Sequence[Picture],
    origin: Mapping[str, Any],
    choice: Choice,
    seed: int,
    reconstructor: str | None,
) -> PartObject:
    """Out of four views that somebody else drew."""
    scene = session.begin(choice, reconstructor)
    source = from_views(views, session.models, session.allowed, origin)
    return _of_grid(session, source, choice, seed, command, scene)


def _by_program(
    session: Session,
    command: str,
    given: str | Image.Image,
    origin: Mapping[str, Any],
    choice: Choice,
    seed: int,
    reconstructor: str | None,
    on_surface: OnSurface,
) -> PartObject:
    """Out of what `generate.command` makes of a text or a picture."""
    choice.check(session.models.view_size)
    choice.params(session.settings.segment)
    origin = {**origin, "program": session.settings.generate.command}
    with made_by_program(session.settings.generate, given, origin, seed) as found:
        if not isinstance(found, Path):
            check_no_surface(on_surface)
            with of_program(*found):
                return _of_views(session, command, found, origin, choice, seed, reconstructor)
        check_any(choice)
        with of_program(found):
            made = of_object(session, found, choice, seed, reconstructor, on_surface)
    origin = {**made.origin, **origin}
    history = [{**made.history[0], "command": command, "origin": origin}]
    return replace(made, caption=origin.get("prompt") or made.caption, origin=origin, history=history)
