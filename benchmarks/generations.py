"""Twenty fixed texts and twenty pictures, what the networks draw of them, and the training object that is most like it.

    python -m benchmarks.generations [--data data] [--models weights/nano] [--split val] --out generations.png

The texts are those of `generate.prompts` in the preset nano, which the report of a run shows as well, whatever the
networks make of them. The pictures are of the first twenty objects of a split, made to be like photographs: at 384
pixels before a wall, with noise, saved as a JPEG; they are cut out and drawn as by `partgen from-image`. The seed is 0
everywhere. Printed is, of each grid, the object of the split `train` whose grid is closest by ST-LPIPS, the mean over
the four views, of those that are close by squared errors, and that distance; of pictures also the distance to the
object's own grid. A distance near 0 is a copy.
"""

import argparse
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.applications.photo import cut_out, object_view
from pipeline.diffusion.pipelines import ImageToMultiViewPipeline, TextToMultiViewPipeline
from pipeline.errors import NoObjects, UserError
from pipeline.evaluation.image_metrics import StLpips
from pipeline.params.base import load_group
from pipeline.params.generate import GenerateParams
from pipeline.project import find_preset
from pipeline.report.contact_sheet import Card, Picture, Sheet, write_png
from pipeline.report.training_grids import Neighbour, TrainingGrids
from pipeline.shards.read import iter_rows, read_manifest, read_table
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import Camera, camera_to_world, over_white, untile
from pipeline.views.mesh_turntable import mesh_turntable
from stages.entry import one_sentence_errors

PICTURES, SIDE_PX = 20, 384
AZIMUTH_DEG, ELEVATION_DEG = 30.0, 15.0
WALL, NOISE, JPEG_QUALITY = (0.92, 0.86, 0.78), 0.015, 85
"""Colour of the wall in its middle, standard deviation of a pixel's noise, both of 1."""


def photograph(glb: bytes, camera: Camera) -> Image.Image:
    """An object as on a photograph: before a wall that darkens towards its rim, noisy, and compressed."""
    turned = np.eye(4)
    turned[:3, :3] = camera_to_world(-AZIMUTH_DEG, 0.0, 1.0)[:3, :3]
    (picture,) = mesh_turntable([glb], camera, ELEVATION_DEG, 1, turned)
    side = np.linspace(-1, 1, camera.size)
    wall = np.array(WALL) * (1 - 0.25 * (side[:, None, None] ** 2 + side[None, :, None] ** 2) / 2)
    noise = np.random.default_rng(0).normal(0, NOISE, picture.shape)
    stream = io.BytesIO()
    taken = ((picture / 255 * wall + noise).clip(0, 1) * 255).round().astype(np.uint8)
    Image.fromarray(taken).save(stream, "JPEG", quality=JPEG_QUALITY)
    return Image.open(stream)


def of_texts(models: Path, prompts: Sequence[str], training: TrainingGrids) -> Iterator[Card]:
    """A card for each of the texts."""
    draw = TextToMultiViewPipeline.from_pretrained(models / "text_to_mv")
    for prompt in prompts:
        (drawn,) = draw(prompt, generator=torch.Generator().manual_seed(0)).images
        found = nearest(training, drawn)
        print(f"{prompt:<36} {found.object_id:<32} {found.distance:.3f}", flush=True)
        yield Card(prompt, "", {"": [shown(drawn, "drawn"), beside(found)]})


def of_pictures(data: Path, models: Path, split: str, training: TrainingGrids, camera: Camera) -> Iterator[Card]:
    """A card for each of the first objects of the split; one whose picture cannot be cut out says so."""
    draw, distance = ImageToMultiViewPipeline.from_pretrained(models / "image_to_mv"), StLpips()
    names = sorted(row["object_id"] for row in objects(data) if row["split"] == split)[:PICTURES]
    if not names:
        raise NoObjects(f"{data} has no objects of the split {split}; name another with --split.")
    glbs = {row["object_id"]: row["glb"] for row in iter_rows(data / "assets/glbs") if row["object_id"] in set(names)}
    own = {name: views for name, views in grids(data, split) if name in glbs}
    for name in names:
        picture = photograph(glbs[name], camera)
        try:
            view = object_view(cut_out(picture), draw.config.grid_size // 2)
        except UserError as error:
            print(f"{name:<36} {error}", flush=True)
            yield Card(name, str(error), {"": [Picture(picture, "the picture")]})
            continue
        (drawn,) = draw(view, generator=torch.Generator().manual_seed(0)).images
        found = nearest(training, drawn)
        itself = float(distance(untile(drawn), own[name]).mean())
        print(f"{name:<36} {found.object_id:<32} {found.distance:.3f}, itself {itself:.3f}", flush=True)
        pictures = [Picture(picture, "the picture"), shown(drawn, f"drawn, {itself:.2f} from it")]
        yield Card(name, "", {"": [*pictures, beside(found)]})


def shown(grid: np.ndarray, text: str) -> Picture:
    """A grid (2H, 2W, 3) in [0, 1] with its line of text."""
    return Picture(Image.fromarray((grid.clip(0, 1) * 255).round().astype(np.uint8)), text)


def nearest(training: TrainingGrids, drawn: np.ndarray) -> Neighbour:
    """The training object that is closest to a grid; NoObjects where there is none."""
    found = training.nearest(drawn)
    if found is None:
        raise NoObjects("There are no renders of the split train to compare with; give a folder that has some, --data.")
    return found


def beside(found: Neighbour) -> Picture:
    """The training object as it is."""
    return shown(found.grid, f"{found.distance:.2f} from {found.object_id}, trained on")


def objects(data: Path) -> list[dict[str, str]]:
    """The objects that were kept."""
    table = read_table(data / "assets/objects", ["object_id", "split", "status"])
    return [row for row in table.to_pylist() if row["status"] == "ok"]


def grids(data: Path, split: str) -> Iterator[tuple[str, np.ndarray]]:
    """Names and views (4, H, W, 3) over white of a split's whole objects."""
    for row in iter_rows(data / "renders/grids"):
        if row["split"] == split and row["part_id"] == WHOLE:
            yield row["object_id"], untile(over_white(decode_png(row["image"]["bytes"])))


def main() -> None:
    """Print the lines, and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the renders")
    parser.add_argument("--models", type=Path, default=Path("weights/nano"), help="folder of trained models")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"], help="of the pictures' objects")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="PNG to be written")
    arguments = parser.parse_args()
    settings = read_manifest(arguments.data / "renders/grids").settings
    camera = Camera(settings["fov_deg"], settings["distance"], SIDE_PX)
    training = TrainingGrids(arguments.data)
    texts = list(of_texts(arguments.models, load_group(GenerateParams, path=find_preset("nano")).prompts, training))
    pictures = list(of_pictures(arguments.data, arguments.models, arguments.split, training, camera))
    title = f"{len(texts)} texts and {len(pictures)} pictures"
    subtitle = f"beside the closest of {len(training.object_ids)} training objects"
    write_png(Sheet(title, subtitle, texts + pictures), arguments.out)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
