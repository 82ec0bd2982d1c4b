"""A picture of some held-out objects taken apart on their own surface, best, typical and worst, chosen by rank."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.errors import UserError
from pipeline.report.ranks import best_typical_worst, ranked_surfaces
from pipeline.report.taken_apart import PICTURE_PX, TITLES, taken_apart
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.progress import Progress
from pipeline.shards.read import read_manifest, read_table
from pipeline.views.cameras import Camera

BESIDE = 2
"""Objects beside one another."""
DPI = 100


def write_surface_gallery(path: Path, data: Path, regime: str) -> None:
    """Draw the objects of `ranked_surfaces`, each as it is, its parts by colour, and pulled apart.

    UserError when no object of the stage `evaluate` has a surface that was kept.
    """
    order = ranked_surfaces(data, regime)
    if not order:
        raise UserError(
            "No evaluated object has its surface in data/atoms/surfaces; run the stages `atoms` and `evaluate` again, "
            "with objects that are held out."
        )
    objects = list(order)
    chosen = [objects[place] for place in best_typical_worst(len(objects))]
    names = {row["object_id"]: row["name"] for row in read_table(data / "assets/objects").to_pylist()}
    surfaces, divisions = ObjectRows(data / "atoms/surfaces"), ObjectRows(data / "evaluation/divisions")
    settings = read_manifest(data / "renders/grids").settings
    camera = Camera(settings["fov_deg"], settings["distance"], settings["view_size"])
    rows, inch = -(-len(chosen) // BESIDE), PICTURE_PX / DPI
    figure = Figure(figsize=(BESIDE * len(TITLES) * inch, rows * (inch + 0.3)), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(rows, BESIDE * len(TITLES), squeeze=False)
    for place in places.flat:
        place.set_axis_off()
    with Progress("Gallery", len(chosen)) as progress:
        for number, object_id in enumerate(chosen):
            of_object = [row for row in divisions.of(object_id) if row["regime"] == regime]
            found = taken_apart(surfaces.of(object_id), of_object, {})[regime]
            line = places[number // BESIDE][number % BESIDE * len(TITLES) :]
            for place, (title, picture) in zip(line, found.pictures(camera).items(), strict=False):
                place.imshow(picture)
                place.set_title(title, fontsize=12)
            rank = f"rank {objects.index(object_id) + 1} of {len(objects)}, IoU {found.iou:.0f} %"
            line[0].set_title(f"{names[object_id]}: {rank}", fontsize=12)
            progress.advance()
    figure.savefig(path, dpi=DPI)
