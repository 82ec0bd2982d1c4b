"""From four views of an object to the object made of parts: segmented, completed, named, reconstructed, assembled."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from pipeline.applications.assemble import Scene, build, fields_of
from pipeline.applications.inputs import Source
from pipeline.applications.models import Networks, Settings
from pipeline.applications.naming import name_parts
from pipeline.applications.result import Part, PartObject
from pipeline.applications.selection import REST, Chosen, choose_parts
from pipeline.assets.glb import Part as GLBPart
from pipeline.assets.glb import surface_glb
from pipeline.assets.names import unique_names
from pipeline.assets.surface import Surface
from pipeline.diffusion.pipelines import CompletionPipeline, SegmentationPipeline
from pipeline.params.choice import Choice
from pipeline.parts.completion import complete
from pipeline.reconstruction.carving import HULL_CELLS, Carver
from pipeline.shards.progress import step
from pipeline.surface.division import SurfacePart
from pipeline.views.cameras import GRID_AZIMUTHS, over_white, tile
from pipeline.views.labels import draw_labels

REST_NAME = "rest"
HIDDEN_NAME = "hidden part"
"""Of a part that none of the four views shows."""


def take_apart(
    source: Source, choice: Choice, seed: int, command: str, networks: Networks, settings: Settings, scene: Scene
) -> PartObject:
    """The object in parts. UserError as of `choose_parts`; parts without a surface are recorded as absent."""
    params, whole = choice.params(settings.segment), over_white(source.grid)
    carver = Carver(scene.camera, scene.elevation_deg, HULL_CELLS)
    with step(f"Segmentation, {params.runs} runs"):
        chosen = choose_parts(networks.get(SegmentationPipeline), whole, source.shown, choice, params, seed, carver)
    rest = {REST: REST_NAME} if choice.seed_point else {}
    models = (*source.models, *SegmentationPipeline.tasks[:1])
    return _made(chosen, rest, {}, source, choice, seed, command, models, networks, settings, scene)


def keep_surface(
    divided: Sequence[SurfacePart],
    source: Source,
    choice: Choice,
    seed: int,
    networks: Networks,
    settings: Settings,
    scene: Scene,
) -> PartObject:
    """The object in parts of its own surface, in the unit frame; each also has a field, of what it shows completed.

    The parts' label map is what the four cameras see of them.
    """
    parts = [
        GLBPart(label, part.name, [one.to_trimesh() for one in part.surfaces]) for label, part in enumerate(divided, 1)
    ]
    seen = draw_labels(parts, scene.camera, [(azimuth, scene.elevation_deg) for azimuth in GRID_AZIMUTHS])
    labels = np.where(source.shown, tile(seen.labels), 0).astype(np.uint8)
    chosen = Chosen(labels, dict.fromkeys(range(1, len(divided) + 1)), [], 0)
    names = {label: part.name for label, part in enumerate(divided, 1) if part.name}
    surfaces = {label: part.surfaces for label, part in enumerate(divided, 1)}
    return _made(chosen, names, surfaces, source, choice, seed, "decompose", source.models, networks, settings, scene)


def _made(
    chosen: Chosen,
    known: Mapping[int, str],
    surfaces: Mapping[int, Sequence[Surface]],
    source: Source,
    choice: Choice,
    seed: int,
    command: str,
    used: Sequence[str],
    networks: Networks,
    settings: Settings,
    scene: Scene,
) -> PartObject:
    """The object of parts that were chosen: completed, named but for names that are `known`, reconstructed.

    Of parts whose `surfaces` are given, these are kept.
    """
    params, whole = choice.params(settings.segment), over_white(source.grid)
    completing = settings.complete.model_copy(update={"seed": seed})
    carver = Carver(scene.camera, scene.elevation_deg, HULL_CELLS)
    masks = {label: chosen.labels == label for label in chosen.scores}
    with step(f"Completion of {len(masks)} parts"):
        drawn = complete(networks.get(CompletionPipeline), whole, masks, completing, carver).parts
    grids = {label: (picture * 255).round().astype(np.uint8) for label, picture in drawn.items()}
    with step("Names"):
        told = name_parts(settings.captions, source.grid, chosen.labels, source.subject)
    names = unique_names(known.get(label) or (told[label].name if label in told else HIDDEN_NAME) for label in masks)
    fields = fields_of(scene, grids)
    models = networks.digests(*used, *CompletionPipeline.tasks[:1], *scene.models)
    to_file = np.linalg.inv(source.origin["from_file"]) if scene.frame == "file" else None
    parts = []
    for label, name in zip(masks, names, strict=True):
        part = Part(
            label,
            name,
            told[label].caption if label in told else name,
            chosen.scores[label],
            grids[label],
            fields[label],
            models=models,
        )
        if label in surfaces:
            glb = surface_glb(name, label, surfaces[label], source.notice, to_file)
            count = sum(len(surface.faces) for surface in surfaces[label])
            part = replace(part, glb=glb, triangles=count, original=True, models={})
        parts.append(part)
    built = build(parts, source.grid, chosen.labels, scene, source.notice, source.origin, chosen.merged)
    return PartObject(
        name=source.name,
        caption=source.origin.get("prompt") or told[0].caption,
        grid=source.grid,
        labels=chosen.labels,
        parts=built.parts,
        segmentations=chosen.segmentations,
        merged=chosen.merged,
        glb=built.glb,
        overlap=built.overlap,
        diagnostics=[*source.remarks, *built.diagnostics],
        notice=source.notice,
        origin=source.origin,
        seed=seed,
        models=models,
        settings={
            "cameras": dict(networks.cameras),
            "steps": networks.steps,
            "segment": params.deciding("seed"),
            "complete": completing.deciding("seed", "methods"),
            "captions": settings.captions.backend,
            "reconstruct": scene.params.deciding(),
            "frame": scene.frame,
        },
        history=[
            {"command": command, "origin": source.origin, "choice": asdict(choice), "seed": seed, "models": models}
        ],
        picture=source.picture,
    )
