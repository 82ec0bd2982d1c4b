"""From four views of an object to the object made of parts: segmented, completed, named, reconstructed, assembled.

The paper's way, for texts, pictures, and 3D objects of which nothing but four views is to be used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from pipeline.applications.assemble import Scene, build, fields_of
from pipeline.applications.inputs import Source
from pipeline.applications.models import Models
from pipeline.applications.naming import HIDDEN_NAME, name_parts
from pipeline.applications.part import Part
from pipeline.applications.result import PartObject
from pipeline.applications.selection import REST, choose_parts
from pipeline.applications.settings import Settings
from pipeline.assets.names import unique_names
from pipeline.diffusion.pipelines import CompletionPipeline, SegmentationPipeline
from pipeline.params.choice import Choice
from pipeline.params.complete import CompleteParams
from pipeline.parts.completion import complete
from pipeline.reconstruction.carving import HULL_CELLS, Carver
from pipeline.shards.progress import step
from pipeline.views.cameras import over_white

REST_NAME = "rest"


def take_apart(
    source: Source, choice: Choice, seed: int, command: str, models: Models, settings: Settings, scene: Scene
) -> PartObject:
    """The object in parts. UserError as of `choose_parts`; parts without a surface are recorded as absent."""
    params, whole = choice.params(settings.segment), over_white(source.grid)
    carver = Carver(scene.camera, scene.elevation_deg, HULL_CELLS)
    with step(f"Segmentation, {params.runs} runs"):
        chosen = choose_parts(models.get(SegmentationPipeline), whole, source.shown, choice, params, seed, carver)
    completing = settings.complete.model_copy(update={"seed": seed})
    grids = _completed(source.grid, chosen.labels, chosen.scores, completing, models, scene)
    with step("Names"):
        told = name_parts(settings.captions, source.grid, chosen.labels, source.subject)
    known = {REST: REST_NAME} if choice.seed_point else {}
    names = unique_names(known.get(label) or (told[label].name if label in told else HIDDEN_NAME) for label in grids)
    fields = fields_of(scene, grids, source.grid)
    used = (*source.models, *SegmentationPipeline.tasks[:1])
    digests = models.digests(*used, *CompletionPipeline.tasks[:1]) | models.reconstructing(scene.params)
    parts = [
        Part(
            label,
            name,
            told[label].caption if label in told else name,
            chosen.scores[label],
            grids[label],
            fields[label],
            models=digests,
        )
        for label, name in zip(grids, names, strict=True)
    ]
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
        models=digests,
        settings={
            "cameras": dict(models.cameras),
            "steps": models.steps,
            "segment": params.deciding("seed"),
            "complete": completing.deciding("seed", "methods"),
            "captions": settings.captions.backend,
            "reconstruct": scene.params.deciding(),
            "frame": scene.frame,
        },
        history=[
            {"command": command, "origin": source.origin, "choice": asdict(choice), "seed": seed, "models": digests}
        ],
        picture=source.picture,
    )


def with_fields(
    result: PartObject, labels: Sequence[int], models: Models, settings: Settings, scene: Scene
) -> PartObject:
    """An object of whose parts those with these labels have fields: where there are none yet, of what the four views
    show of the part, completed. Its surface stays.
    """
    missing = [part.label for part in result.parts if part.field is None and part.label in labels]
    if not missing:
        return result
    completing = settings.complete.model_copy(update={"seed": result.seed})
    grids = _completed(result.grid, result.labels, dict.fromkeys(missing), completing, models, scene)
    fields = fields_of(scene, grids, result.grid)
    parts = [
        replace(part, grid=grids[part.label], field=fields[part.label]) if part.label in fields else part
        for part in result.parts
    ]
    digests = models.digests(*CompletionPipeline.tasks[:1]) | models.reconstructing(scene.params)
    made_with = {**result.settings, "steps": models.steps, "complete": completing.deciding("seed", "methods")}
    return replace(result, parts=parts, models={**result.models, **digests}, settings=made_with)


def _completed(
    grid: np.ndarray,
    labels: np.ndarray,
    parts: Mapping[int, object],
    params: CompleteParams,
    models: Models,
    scene: Scene,
) -> dict[int, np.ndarray]:
    """The grids (H, W, 3) uint8 of the parts with these labels, drawn whole."""
    masks = {label: labels == label for label in parts}
    carver = Carver(scene.camera, scene.elevation_deg, HULL_CELLS)
    with step(f"Completion of {len(masks)} parts"):
        drawn = complete(models.get(CompletionPipeline), over_white(grid), masks, params, carver).parts
    return {label: (picture * 255).round().astype(np.uint8) for label, picture in drawn.items()}
