"""From four views of an object to the object made of parts: segmented, completed, named, reconstructed, assembled."""

from dataclasses import asdict

import numpy as np

from pipeline.applications.assemble import Scene, build, fields_of
from pipeline.applications.inputs import Source
from pipeline.applications.models import Networks, Settings
from pipeline.applications.naming import name_parts
from pipeline.applications.result import Part, PartObject
from pipeline.applications.selection import REST, choose_parts
from pipeline.assets.names import unique_names
from pipeline.diffusion.pipelines import CompletionPipeline, SegmentationPipeline
from pipeline.params.choice import Choice
from pipeline.parts.completion import complete
from pipeline.reconstruction.carving import HULL_CELLS, Carver
from pipeline.shards.progress import step
from pipeline.views.cameras import over_white

REST_NAME = "rest"


def take_apart(
    source: Source, choice: Choice, seed: int, command: str, networks: Networks, settings: Settings, scene: Scene
) -> PartObject:
    """The object in parts. UserError as of `choose_parts`; parts without a surface are recorded as absent."""
    params, whole = choice.params(settings.segment), over_white(source.grid)
    completing = settings.complete.model_copy(update={"seed": seed})
    carver = Carver(scene.camera, scene.elevation_deg, HULL_CELLS)
    with step(f"Segmentation, {params.runs} runs"):
        chosen = choose_parts(networks.get(SegmentationPipeline), whole, source.shown, choice, params, seed, carver)
    masks = {label: chosen.labels == label for label in chosen.scores}
    with step(f"Completion of {len(masks)} parts"):
        drawn = complete(networks.get(CompletionPipeline), whole, masks, completing, carver)
    grids = {label: (picture * 255).round().astype(np.uint8) for label, picture in drawn.items()}
    with step("Names"):
        told = name_parts(settings.captions, source.grid, chosen.labels, source.subject)
    rest = REST if choice.seed_point else None
    names = unique_names(REST_NAME if label == rest else told[label].name for label in masks)
    fields = fields_of(scene, grids)
    parts = [
        Part(label, name, told[label].caption, chosen.scores[label], grids[label], fields[label])
        for label, name in zip(masks, names, strict=True)
    ]
    built = build(parts, source.grid, chosen.labels, scene, source.notice, source.origin, chosen.merged)
    models = networks.digests(
        *source.models, *SegmentationPipeline.tasks[:1], *CompletionPipeline.tasks[:1], *scene.models
    )
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
