"""A picture of some held-out objects, best, typical and worst, chosen by the rank of their score and not by hand."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.errors import UserError
from pipeline.heldout.reconstruct_tables import PREDICTED
from pipeline.reconstruction.field import read_field
from pipeline.reconstruction.turntable import exploded, part_picture, view
from pipeline.report.ranks import best_typical_worst
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.progress import Progress
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import Camera, over_white

SIZE, AZIMUTH_DEG, EXPLODE, SAMPLES = 192, 30.0, 0.6, 96
SCORES = ["ap50", "ap75", "psnr_foreground"]
"""What the objects are ranked by, the first first."""
COLUMNS = ("rendered", "true parts", "predicted parts", "reconstructed", "pulled apart")


def write_gallery(path: Path, data: Path) -> None:
    """Draw a row an object: its grid, its true and predicted parts, and its predicted parts completed, in 3D."""
    chosen = ranked(data)
    names = {row["object_id"]: row["name"] for row in read_table(data / "assets/objects").to_pylist()}
    tables = {
        "grids": ObjectRows(data / "renders/grids", ["part_id", "image"]),
        "truth": ObjectRows(data / "masks/labels", ["labels"]),
        "parts": ObjectRows(data / "segmentations/parts", ["labels"]),
        "fields": ObjectRows(data / "reconstructions/fields", ["source", "method", "label", "field"]),
    }
    settings = read_manifest(data / "renders/grids").settings
    camera = Camera(settings["fov_deg"], settings["distance"], SIZE)
    figure = Figure(figsize=(2.2 * len(COLUMNS), 2.4 * len(chosen)), layout="constrained")
    FigureCanvasAgg(figure)
    places = figure.subplots(len(chosen), len(COLUMNS), squeeze=False)
    with Progress("Gallery", len(chosen)) as progress:
        for axes, (object_id, (rank, score)) in zip(places, chosen.items(), strict=True):
            rows = {name: table.of(object_id) for name, table in tables.items()}
            whole = next(row for row in rows["grids"] if row["part_id"] == WHOLE)
            pictures = [over_white(decode_png(whole["image"]["bytes"]))]
            pictures += [_labels(rows[name][0]["labels"]["bytes"]) for name in ("truth", "parts")]
            found = [row for row in rows["fields"] if (row["source"], row["method"]) == PREDICTED]
            fields = [read_field(row["field"], f"the field of {object_id}") for row in found]
            fields = [field for field in fields if not field.is_empty]
            for moved in (0.0, EXPLODE) if fields else ():
                seen = view(exploded(fields, moved), camera, AZIMUTH_DEG, settings["elevation_deg"], SAMPLES)
                pictures.append(seen.picture_HW3 / 255)
            for place, title in zip(axes, COLUMNS, strict=True):
                place.set_axis_off()
                place.set_title(title, fontsize=8)
            for place, picture in zip(axes, pictures, strict=False):
                place.imshow(picture)
            axes[0].set_title(f"{names[object_id]}: rank {rank}, AP50 {100 * score:.0f} %", fontsize=8)
            progress.advance()
    figure.savefig(path, dpi=90)


def ranked(data: Path) -> Mapping[str, tuple[int, float]]:
    """The objects to show: rank, from 1, and AP50 of the automatic segmentation with the most runs, the best first.

    Ties go by AP75, then by the foreground's PSNR of the parts put together, then by id. Objects that show one part
    only are left out: they can hardly be cut wrongly. UserError when none is left.
    """
    visible = read_table(data / "masks/visibility", ["object_id", "pixels"]).to_pandas()
    in_sight = visible[visible["pixels"].map(np.any)].value_counts("object_id")
    figures = read_table(data / "evaluation/figures").to_pandas()
    automatic = figures["method"].where(figures["setting"] == "automatic")
    runs = automatic.str.extract(r"^partgen (\d+)$", expand=False).astype(float)
    assembled = (figures["method"] == "predicted parts") & (figures["setting"] == "3d")
    found = figures[(runs == runs.max()) | assembled & (figures["figure"] == SCORES[-1])]
    scores = found.pivot(index="object_id", columns="figure", values="value").reindex(columns=SCORES)
    scores = scores.dropna(subset="ap50").fillna(-np.inf)
    scores = scores[in_sight.reindex(scores.index, fill_value=0) > 1].sort_values(SCORES, ascending=False)
    if scores.empty:
        raise UserError(
            "None of the evaluated objects shows more than one part, so there is nothing to choose for the gallery; "
            "evaluate objects of several parts."
        )
    return {scores.index[place]: (place + 1, scores["ap50"].iloc[place]) for place in best_typical_worst(len(scores))}


def _labels(png: bytes) -> np.ndarray:
    labels = decode_png(png)
    return part_picture(labels, max(1, int(labels.max()))) / 255
