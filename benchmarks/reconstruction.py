"""The reconstructors against each other: novel views of held-out objects and of their parts (Fig. A6 as a table).

    python -m benchmarks.reconstruction [--data data] [--models data/models] [--split val] [--objects N]
        [--reconstructors lrm carve gaussians lgm instantmesh grm command] [--pictures FILE] [--splats FOLDER]

Parts are shown once more by the distance of their visual hull's centre from the object's centre, since models that were
trained on whole objects alone know objects in the middle. A reconstructor whose weights are not named in the params is
`not run`. Gaussians are drawn as splats; what their baking into a field changes is said below the table. With
`--splats` they are also written as files that viewers read.

Ground-truth grids go in; the four novel views come out and are compared with the renders. PSNR in dB, of the whole
picture and of the foreground (pixels whose true alpha exceeds 1/2), and ST-LPIPS (AlexNet); conventions are those of
`pipeline.evaluation.image_metrics`. A view without foreground counts for the other measures only. A value is the mean
over an object's or a part's views, a line the mean over an object's parts first and then over objects, with the 95 %
interval of a bootstrap over objects. The last lines are the same of the difference, pair by pair.

The split is `val`; `test` is for tables that are published, after everything was chosen.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from pipeline.errors import UserError
from pipeline.evaluation.bootstrap import mean_interval
from pipeline.evaluation.image_metrics import StLpips
from pipeline.params.base import load_group, validate
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.reconstruction.carving import HULL_CELLS, INSIDE, Carver, silhouettes
from pipeline.reconstruction.gaussian_files import encoded_gaussians
from pipeline.reconstruction.others import Splatted
from pipeline.reconstruction.rays import split_views, view_rays
from pipeline.reconstruction.reconstructor import Reconstructor, find_reconstructor
from pipeline.reconstruction.renderer import render
from pipeline.reconstruction.splats import draw_views
from pipeline.report.contact_sheet import Card, Picture, Sheet, write_png
from pipeline.shards.read import iter_rows, read_manifest
from pipeline.shards.table import decode_png
from pipeline.views.cameras import Camera, camera_to_world, over_white, tile, untile
from pipeline.views.psnr import psnr
from stages.entry import one_sentence_errors

NAMES = list(get_args(ReconstructParams.model_fields["reconstructor"].annotation))
MEASURES = ("PSNR, dB", "foreground PSNR, dB", "ST-LPIPS")
DISTANCES = (0.0, 0.25, 0.5, np.inf)
"""Between which parts are counted together, by their distance from the centre."""
SHEET_ROWS = 24
"""Objects and parts on the sheet at most."""


@dataclass(frozen=True)
class Example:
    """An object, or one part of it alone."""

    object_id: str
    part_id: int
    """0 for the whole."""
    grid: np.ndarray
    """(2H, 2W, 4) uint8."""
    novel: np.ndarray
    """The views to be seen, (4, H, W, 4) uint8."""
    cameras: list[tuple[float, float]]
    """Azimuth and elevation of each, in degrees."""
    distance: float
    """Of the middle of its visual hull from the object's centre; the object's radius is 1."""

    @property
    def name(self) -> str:
        return f"{self.object_id}, part {self.part_id}" if self.part_id else self.object_id


@dataclass(frozen=True)
class Result:
    """What one reconstructor made of one example."""

    values: tuple[float, ...]
    """By MEASURES, the means over the views."""
    seconds: tuple[float, float]
    """To the field, and for its pictures."""
    views: np.ndarray
    """(4, H, W, 3) uint8."""
    baked: float
    """PSNR of the baked field's pictures against those of the gaussians, dB; nan where there are none."""


def examples(data: Path, split: str, objects: int | None) -> Iterator[Example]:
    """The first objects of a split with all their parts, in the order of the tables."""
    novel = iter_rows(data / "renders/novel")
    settings = read_manifest(data / "renders/grids").settings
    camera = Camera(settings["fov_deg"], settings["distance"], settings["view_size"])
    carver = Carver(camera, settings["elevation_deg"], HULL_CELLS)
    seen: set[str] = set()
    for row in iter_rows(data / "renders/grids"):
        # Both tables hold the same objects and parts in the same order.
        views = next(novel)
        assert (views["object_id"], views["part_id"]) == (row["object_id"], row["part_id"])
        if row["split"] != split:
            continue
        seen.add(row["object_id"])
        if objects is not None and len(seen) > objects:
            return
        cameras = list(zip(views["azimuths"], views["elevations"], strict=True))
        pictures = untile(decode_png(views["image"]["bytes"]))
        grid = decode_png(row["image"]["bytes"])
        yield Example(row["object_id"], row["part_id"], grid, pictures, cameras, off_centre(carver, grid))


def off_centre(carver: Carver, grid: np.ndarray) -> float:
    """The distance of the middle of a grid's visual hull from the centre; 0 where it has none."""
    rgba_4HW = torch.from_numpy(grid).permute(2, 0, 1).float() / 255
    occupancy = carver.hull(silhouettes(split_views(rgba_4HW[None])[0])).numpy()
    cells = np.argwhere(occupancy > INSIDE)
    return float(np.linalg.norm((cells.mean(axis=0) + 0.5) * carver.cell - 1)) if len(cells) else 0.0


def measured(
    example: Example,
    reconstructor: Reconstructor,
    settings: dict[str, Any],
    distance: StLpips,
    device: torch.device,
    splats: Path | None = None,
) -> Result:
    """Reconstruct, render and compare; with `splats`, write gaussians into that folder."""
    started = time.perf_counter()
    rgba = np.concatenate((over_white(example.grid), example.grid[..., 3:].astype(np.float32) / 255), axis=-1)
    grid = torch.from_numpy(rgba).movedim(-1, 0).to(device)
    field = reconstructor.fields(grid[None])[0]
    reconstructed = time.perf_counter()
    camera = Camera(settings["fov_deg"], settings["distance"], settings["view_size"])
    pictures = []
    for azimuth, elevation in example.cameras:
        rays = view_rays(camera, azimuth, elevation, device).flat()
        with torch.no_grad():
            colour = render([field], rays, reconstructor.samples).colour
        pictures.append(colour.view(camera.size, camera.size, 3).clamp(0, 1).cpu().numpy())
    seconds = (reconstructed - started, time.perf_counter() - reconstructed)
    views, targets, baked = np.stack(pictures), over_white(example.novel), np.nan
    if isinstance(reconstructor, Splatted) and not field.is_empty:
        gaussians = reconstructor.gaussians(grid)
        if splats:
            splats.mkdir(parents=True, exist_ok=True)
            (splats / f"{example.object_id}-{example.part_id}.ply").write_bytes(encoded_gaussians(gaussians))
        poses = [camera_to_world(*where, camera.distance) for where in example.cameras]
        drawn = [one.colour_HW3.cpu().numpy() for one in draw_views(gaussians, poses, camera.fov_deg, camera.size)]
        baked, views = float(psnr(views, np.stack(drawn)).mean()), np.stack(drawn)
    foreground = example.novel[..., 3] > 127
    shown = foreground.any(axis=(1, 2))
    of_foreground = psnr(views[shown], targets[shown], foreground[shown]).mean() if shown.any() else np.nan
    values = (float(psnr(views, targets).mean()), float(of_foreground), float(distance(views, targets).mean()))
    return Result(values, seconds, _bytes(views), baked)


def interval(values: np.ndarray, objects: Sequence[str]) -> str:
    """The mean over objects of the means of their values, out of (N,), and its 95 % interval.

    Values that are not finite do not count: the PSNR of views without foreground, or of equal ones.
    """
    known, names = np.isfinite(values), np.array(objects)
    if not known.any():
        return f"{np.nan:8.3f}" + " " * 19
    of_objects = [values[known & (names == name)].mean() for name in np.unique(names[known])]
    found = mean_interval(np.array(of_objects), seed=0)
    return f"{found.mean:8.3f} [{found.low:7.3f}, {found.high:7.3f}]"


def table(shown: list[Example], results: dict[str, list[Result]]) -> Iterator[str]:
    """A line for each reconstructor, and for each further one's difference to the first; wholes and parts apart."""
    yield f"{'':<22}" + "".join(f"{measure:^29}" for measure in MEASURES)
    groups = [("wholes", False, (0.0, np.inf)), ("parts", True, (0.0, np.inf))]
    for low, high in pairwise(DISTANCES):
        title = f"parts {low:g} to {high:g} from the centre" if high < np.inf else f"parts beyond {low:g}"
        groups.append((title, True, (low, high)))
    for title, wanted, (low, high) in groups:
        chosen = [
            number
            for number, example in enumerate(shown)
            if (example.part_id > 0) == wanted and (low <= example.distance < high or not wanted)
        ]
        if not chosen:
            continue
        objects = [shown[number].object_id for number in chosen]
        values = {name: np.array([found[number].values for number in chosen]) for name, found in results.items()}
        first, *others = values
        values |= {f"{first} - {other}": values[first] - values[other] for other in others}
        yield f"{len(chosen)} {title} of {len(set(objects))} objects"
        for name, columns in values.items():
            yield f"  {name:<20}" + "".join(f" {interval(column, objects)}" for column in columns.T)
    for name, found in results.items():
        field, pictures = np.mean([one.seconds for one in found], axis=0)
        baked = np.array([one.baked for one in found])
        said = f", baking {np.nanmean(baked):.1f} dB" if np.isfinite(baked).any() else ""
        yield f"{name}: {field:.2f} s a field, {pictures / 4:.2f} s a view{said}"


def sheet(shown: list[Example], results: dict[str, list[Result]], title: str) -> Sheet:
    """Input, truth and what was made, a row for each of some objects and parts, spread evenly over all."""
    cards = []
    for number in np.unique(np.linspace(0, len(shown) - 1, min(SHEET_ROWS, len(shown))).astype(int)):
        example = shown[number]
        pictures = [
            Picture(Image.fromarray(_bytes(over_white(example.grid))), "input grid"),
            Picture(Image.fromarray(_bytes(tile(over_white(example.novel)))), "novel views, true"),
        ]
        for name, found in results.items():
            total, foreground, distance = found[number].values
            text = f"{name}: {total:.1f} dB, foreground {foreground:.1f} dB, ST-LPIPS {distance:.3f}"
            pictures.append(Picture(Image.fromarray(tile(found[number].views)), text))
        cards.append(Card(example.name, "", {"views": pictures}))
    return Sheet(title, "2x2 views each", cards)


def _bytes(pictures: np.ndarray) -> np.ndarray:
    return (pictures * 255).round().astype(np.uint8)


def main() -> None:
    """Print the table, and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the renders")
    parser.add_argument("--models", type=Path, default=Path("data/models"), help="folder of trained models")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--objects", type=int, help="the first of the split; all by default")
    parser.add_argument("--reconstructors", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--splats", type=Path, metavar="FOLDER", help="write gaussians as PLY files")
    parser.add_argument("--pictures", type=Path, metavar="FILE", help="PNG of inputs, truths and results")
    arguments = parser.parse_args()
    params, reconstruction = load_group(ReconstructParams), load_group(ReconstructionParams)
    settings = read_manifest(arguments.data / "renders/grids").settings
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reconstructors, not_run = {}, []
    for name in arguments.reconstructors:
        try:
            chosen = validate(ReconstructParams, {**params.model_dump(), "reconstructor": name}, ReconstructParams.name)
            found = find_reconstructor(chosen, reconstruction, arguments.models, settings, device)
        except UserError as error:
            not_run.append(f"{name}: not run; {error}")
        else:
            reconstructors[name] = found
    if not reconstructors:
        raise UserError(" ".join(not_run))
    shown = list(examples(arguments.data, arguments.split, arguments.objects))
    if not shown:
        raise UserError(f"{arguments.data} has no objects of the split {arguments.split}; name another with --split.")
    distance = StLpips(device)
    results = {
        name: [measured(example, one, settings, distance, device, arguments.splats) for example in shown]
        for name, one in reconstructors.items()
    }
    title = f"Reconstruction of {arguments.data}, split {arguments.split}"
    print(title, *table(shown, results), *not_run, sep="\n")
    if arguments.pictures:
        write_png(sheet(shown, results, title), arguments.pictures)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
