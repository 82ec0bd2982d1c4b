"""Whether each network can learn its task: a handful of objects, learnt by heart, in minutes.

    python -m benchmarks.memorise [--data data] [--objects 4] [--tasks segment complete ...]

Trains `text_to_mv`, and from it the others, on a few training objects by the same loop as the stages, over the trained
autoencoder of data/models; then samples each network for these very objects. What is finished is kept in scratch, so
that a second call prints at once. It says nothing about other objects.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.solvers import foreground_psnr, right_share
from pipeline.diffusion.examples import Examples
from pipeline.diffusion.frozen import image_outputs, text_outputs
from pipeline.diffusion.models import save_model, start_model
from pipeline.diffusion.networks import load_autoencoder
from pipeline.diffusion.objective import DiffusionObjective
from pipeline.diffusion.pipelines import pipeline_class
from pipeline.diffusion.sampling import MultiViewPipeline
from pipeline.diffusion.schedule import training_schedule
from pipeline.diffusion.tasks import BASE, TASKS, Task
from pipeline.params.base import load_group
from pipeline.params.diffusion import DiffusionParams
from pipeline.params.train import LoopParams, TaskParams, TrainParams
from pipeline.shards.read import iter_rows, read_manifest, read_table
from pipeline.shards.scratch import scratch
from pipeline.shards.table import decode_png
from pipeline.training.folder import training_folder
from pipeline.training.loop import train
from pipeline.views.cameras import over_white
from pipeline.views.psnr import psnr
from stages.entry import one_sentence_errors

STEPS, OTHER_STEPS = {BASE: 1200, "segment": 4500, "complete": 1000}, 600
"""Of each training. Which of the colours a part gets has to be read out of much noise, over all of its pixels: what
`segment` learns last, and only as the learning rate cools down."""
MOST_PARTS = 4
"""Of an object to be learnt, and the reference colours Q: more colours than parts take longer to be told apart."""


@dataclass(frozen=True)
class Known:
    """An object to be learnt by heart."""

    object_id: str
    caption: str
    whole: np.ndarray
    """The grid I, (H, W, 3) float32 in [0, 1]."""
    labels: np.ndarray
    """(H, W) uint8."""
    parts: dict[int, np.ndarray]
    """The grids J, (H, W, 4) uint8, by part id."""
    captions: dict[int, str]
    views: list[np.ndarray]
    """Single views, (h, w, 3) float32 in [0, 1]."""


def known_objects(data: Path, count: int) -> list[Known]:
    """The first training objects of 2 to MOST_PARTS parts, all in sight, no two of one name."""
    names = {row["object_id"]: row["name"] for row in read_table(data / "assets/objects").to_pylist()}
    captions: dict[str, dict[int, str]] = {}
    for row in read_table(data / "captions/captions", ["object_id", "part_id", "caption"]).to_pylist():
        captions.setdefault(row["object_id"], {})[row["part_id"]] = row["caption"]
    labels = {
        row["object_id"]: decode_png(row["labels"]["bytes"])
        for row in iter_rows(data / "masks/labels")
        if row["split"] == "train"
    }
    chosen: dict[str, str] = {}
    for object_id, grid in sorted(labels.items()):
        parts = len(captions[object_id]) - 1
        if 2 <= parts <= MOST_PARTS and len(np.unique(grid)) == parts + 1:
            chosen.setdefault(names[object_id], object_id)
    ids = list(chosen.values())[:count]
    grids: dict[str, dict[int, np.ndarray]] = {object_id: {} for object_id in ids}
    for row in iter_rows(data / "renders/grids", ["object_id", "part_id", "image"]):
        if row["object_id"] in grids:
            grids[row["object_id"]][row["part_id"]] = decode_png(row["image"]["bytes"])
    views: dict[str, list[np.ndarray]] = {object_id: [] for object_id in ids}
    for row in iter_rows(data / "renders/conditioning", ["object_id", "image"]):
        if row["object_id"] in views:
            views[row["object_id"]].append(over_white(decode_png(row["image"]["bytes"])))
    return [
        Known(
            object_id,
            captions[object_id][0],
            over_white(grids[object_id][0]),
            labels[object_id],
            {part: grid for part, grid in grids[object_id].items() if part},
            captions[object_id],
            views[object_id],
        )
        for object_id in ids
    ]


def segments(model: MultiViewPipeline, known: list[Known]) -> str:
    """Right pixels, and whether seeds matter."""
    shares, same, different = [], True, 0.0
    for item in known:
        once, again, other = (
            model(item.whole, generator=torch.Generator().manual_seed(seed)).labels[0] for seed in (0, 0, 1)
        )
        shares.append(right_share(once, item.labels))
        same &= bool(np.array_equal(once, again))
        different += float(np.mean(once[item.labels > 0] != other[item.labels > 0])) / len(known)
    pixels, parts = np.mean(shares, axis=0) * 100
    return (
        f"{pixels:.1f} % of all pixels and {parts:.1f} % of the object's in the right part (goal 95); "
        f"same seed {'the same' if same else 'NOT the same'}, another seed gives {different:.0%} of them another colour"
    )


def completes(model: MultiViewPipeline, known: list[Known]) -> str:
    """PSNR of the parts."""
    values = []
    for item in known:
        masks = [item.labels == part for part in item.parts]
        drawn = model(item.whole, masks, generator=torch.Generator().manual_seed(0)).images
        values += [foreground_psnr(image, part) for image, part in zip(drawn, item.parts.values(), strict=True)]
    return f"{np.mean(values):.1f} dB on the foreground of {len(values)} parts (goal of `complete` 25)"


def edits(model: MultiViewPipeline, known: list[Known]) -> str:
    """PSNR of the parts, out of their captions."""
    values = []
    for item in known:
        for part, grid in item.parts.items():
            rest = (item.labels > 0) & (item.labels != part)
            generator = torch.Generator().manual_seed(0)
            drawn = model(item.whole, rest, item.captions[part], generator=generator).images[0]
            values.append(foreground_psnr(drawn, grid))
    return f"{np.mean(values):.1f} dB on the foreground of {len(values)} parts"


def texts(model: MultiViewPipeline, known: list[Known]) -> str:
    """How often the drawn object is the right one of the set."""
    drawn = [model(item.caption, generator=torch.Generator().manual_seed(0)).images[0] for item in known]
    return retrieved(drawn, list(range(len(known))), known)


def images(model: MultiViewPipeline, known: list[Known]) -> str:
    """How often the drawn object is the right one of the set, over all single views."""
    drawn, owners = [], []
    for owner, item in enumerate(known):
        drawn += list(model(item.views, generator=torch.Generator().manual_seed(0)).images)
        owners += [owner] * len(item.views)
    return retrieved(drawn, owners, known)


def retrieved(drawn: list[np.ndarray], owners: list[int], known: list[Known]) -> str:
    """For how many pictures the grid of their own object is the nearest in squared error, and the PSNR to it."""
    errors = np.array([[np.mean((picture - item.whole) ** 2) for item in known] for picture in drawn])
    right = int(np.sum(errors.argmin(axis=1) == owners))
    values = psnr(np.stack(drawn), np.stack([known[owner].whole for owner in owners]))
    return f"{right} of {len(owners)} pictures are nearest to their own object (goal all); {values.mean():.1f} dB"


MEASURES: dict[str, Callable[[MultiViewPipeline, list[Known]], str]] = {
    "text_to_mv": texts,
    "image_to_mv": images,
    "segment": segments,
    "complete": completes,
    "edit": edits,
    "complete_no_context": completes,
    "complete_single_view": completes,
}


def main() -> None:
    """Print one line a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of renders, masks and captions")
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the steps of every task")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--autoencoder", type=Path, default=Path("data/models/autoencoder"), help="a trained one")
    parser.add_argument("--tasks", nargs="*", default=list(MEASURES), choices=list(MEASURES))
    arguments = parser.parse_args()
    params, loop = load_group(DiffusionParams), load_group(TrainParams).loop
    loop = loop.model_copy(update={"drop_condition": 0.0, "pictures_every": 10**9, "validate_every": 10**9})
    known = known_objects(arguments.data, arguments.objects)
    print(f"{len(known)} objects: {', '.join(item.object_id for item in known)}")
    models = scratch() / "memorise"
    load_autoencoder(arguments.autoencoder).save_pretrained(models / "autoencoder")
    for name in dict.fromkeys((BASE, *arguments.tasks)):
        colours = {"colours": MOST_PARTS, "palette": "random"} if name == "segment" else {}
        of_task = params.model_copy(update=colours)
        steps = round(arguments.effort * STEPS.get(name, OTHER_STEPS))
        schedule = TaskParams(
            steps=steps, batch=arguments.batch, micro_batch=arguments.batch, learning_rate=arguments.learning_rate
        )
        started = time.monotonic()
        of_loop = loop if name == "segment" else loop.model_copy(update={"cooldown": 0.0})
        model = memorised(TASKS[name], of_task, of_loop, schedule, arguments.data, models, known)
        seconds = time.monotonic() - started
        if name in arguments.tasks:
            print(f"{name:<21} {seconds:5.0f} s, {steps} steps: {MEASURES[name](model, known)}", flush=True)


def memorised(
    task: Task,
    params: DiffusionParams,
    loop: LoopParams,
    schedule: TaskParams,
    data: Path,
    models: Path,
    known: list[Known],
) -> MultiViewPipeline:
    """The task's model, trained on the known objects alone, without augmentation."""
    ids = [item.object_id for item in known]
    grid_size = 2 * read_manifest(data / "renders/grids").settings["view_size"]
    noise = training_schedule(params.schedule, task)
    torch.manual_seed(loop.seed)
    model = start_model(task, params, models, grid_size)
    objective = DiffusionObjective(
        task,
        model,
        noise,
        params.sampler.of(task.name),
        Examples(data, task, "train", params, loop.seed, drop_condition=0.0, augment=task.views == 1, only=ids),
        None,
        loop.seed,
        text_outputs(data, model.text) if task.caption else None,
        image_outputs(data, model.image) if model.image is not None else None,
    )
    inputs = (params, loop, schedule, {"objects": ids})
    train(objective, task.name, loop, schedule, training_folder(f"memorise-{task.name}", *inputs), models / "curve.csv")
    save_model(model, task, noise, params, grid_size, models / task.name)
    pipeline = pipeline_class(task.name).from_pretrained(models / task.name)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


if __name__ == "__main__":
    with one_sentence_errors():
        main()
