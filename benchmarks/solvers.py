"""Steps against quality: the paper's 250 steps of DDIM, fewer of them, and faster solvers, on a trained model.

    python -m benchmarks.solvers --model data/models/segment [--data data] [--split test] [--objects 8]

For a model of `segment`: the share of pixels in the right part, up to permutation of the parts, over the whole grid and
over the object. For one of `complete` or its ablations: PSNR over the pixels of the whole part J, for one part of each
object. Every line sees the same objects and the same noise.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from pipeline.diffusion.pipelines import CompletionPipeline, SegmentationPipeline, pipeline_class
from pipeline.diffusion.sampling import MultiViewPipeline, Sampling
from pipeline.errors import UserError
from pipeline.shards.read import iter_rows
from pipeline.shards.table import decode_png
from pipeline.views.cameras import over_white
from pipeline.views.psnr import psnr
from stages.entry import one_sentence_errors

SOLVERS = (
    *(("ddim", steps) for steps in (250, 50, 25, 10)),
    *(("dpm-solver++", steps) for steps in (25, 10)),
    *(("unipc", steps) for steps in (25, 10)),
)


@dataclass(frozen=True)
class Example:
    """An object, and its largest part that is in sight."""

    whole: np.ndarray
    """The grid I, (H, W, 3) float32 in [0, 1]."""
    labels: np.ndarray
    """(H, W) uint8."""
    part_id: int
    part: np.ndarray
    """The grid J, (H, W, 4) uint8: its alpha says where the part is."""


def examples(data: Path, split: str) -> Iterator[Example]:
    """The objects of a split that have a part in sight, in the order of the tables."""
    labels = {
        row["object_id"]: row["labels"]["bytes"]
        for row in iter_rows(data / "masks/labels", ["object_id", "split", "labels"])
        if row["split"] == split
    }
    rows = iter_rows(data / "renders/grids", ["object_id", "part_id", "image"])
    for object_id, grids in groupby(rows, key=lambda row: row["object_id"]):
        if object_id not in labels:
            continue
        pictures = {row["part_id"]: row["image"]["bytes"] for row in grids}
        of_parts = decode_png(labels[object_id])
        # part ids go by size, the largest first
        part_id = min((part for part in pictures if part > 0 and np.any(of_parts == part)), default=None)
        if part_id is not None:
            whole = over_white(decode_png(pictures[0]))
            yield Example(whole, of_parts, part_id, decode_png(pictures[part_id]))


def right_share(drawn: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Shares in [0, 1] of all pixels, and of the object's, that are in the right part; (H, W) labels, 0 the background.

    Drawn parts are matched one to one to true parts such that most pixels are right; the background is not permuted.
    """
    parts = range(1, max(drawn.max(), truth.max()) + 1)
    overlap = np.array([[np.sum((drawn == one) & (truth == other)) for other in parts] for one in parts])
    right = overlap[linear_sum_assignment(-overlap)].sum()
    background = np.sum((drawn == 0) & (truth == 0))
    return float((right + background) / truth.size), float(right / np.sum(truth > 0))


def foreground_psnr(drawn: np.ndarray, part: np.ndarray) -> float:
    """PSNR in dB of a grid (H, W, 3) in [0, 1] where the true part, (H, W, 4) uint8, is not transparent."""
    return float(psnr(drawn, over_white(part), part[..., 3] > 0))


def quality(model: MultiViewPipeline, shown: list[Example], sampling: Sampling) -> np.ndarray:
    """The model's measures, a row an object."""
    rows: list[tuple[float, ...]] = []
    for number, example in enumerate(shown):
        sampling["generator"] = torch.Generator().manual_seed(number)
        if isinstance(model, SegmentationPipeline):
            rows.append(right_share(model(example.whole, **sampling).labels[0], example.labels))
        else:
            assert isinstance(model, CompletionPipeline)
            drawn = model(example.whole, example.labels == example.part_id, **sampling).images[0]
            rows.append((foreground_psnr(drawn, example.part),))
    return np.array(rows)


def load(folder: Path) -> tuple[MultiViewPipeline, tuple[str, ...]]:
    """The model of a folder, and what is measured of it."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise UserError(f"{folder} holds no model; train one, or name another with --model.")
    kind = pipeline_class(json.loads(index.read_text(encoding="utf-8"))["task"])
    measures = {
        SegmentationPipeline: ("right pixels, %", "right pixels of the object, %"),
        CompletionPipeline: ("foreground PSNR, dB",),
    }
    if kind not in measures:
        raise UserError(f"{folder} is a model of {kind.tasks[0]}; name one of segment or complete with --model.")
    return kind.from_pretrained(folder), measures[kind]


def peak_memory(device: torch.device) -> str:
    """The most that this process has held."""
    resident = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB resident"
    if device.type != "cuda":
        return resident
    return f"{resident}, {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB of the GPU"


def main() -> None:
    """Print one line a solver and number of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("data/models/segment"), help="folder of a trained model")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of renders and masks")
    parser.add_argument("--split", default="test", help="train, val or test")
    parser.add_argument("--objects", type=int, default=8, help="the first of the split")
    arguments = parser.parse_args()
    model, measures = load(arguments.model)
    shown = list(islice(examples(arguments.data, arguments.split), arguments.objects))
    if not shown:
        raise UserError(f"{arguments.data} has no objects of the split {arguments.split}; name another with --split.")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    model.set_progress_bar_config(disable=True)
    quality(model, shown[:1], {"num_inference_steps": 2})  # what is built at the first call is not timed
    print(f"{arguments.model} on {len(shown)} objects of {arguments.split}, guidance {model.config.guidance:g}")
    print(f"{'solver':<14}{'steps':>6}{'s a sample':>12}", *(f"{measure:>31}" for measure in measures))
    for solver, steps in SOLVERS:
        started = time.perf_counter()
        values = quality(model, shown, {"solver": solver, "num_inference_steps": steps})
        seconds = (time.perf_counter() - started) / len(shown)
        scale = 100 if isinstance(model, SegmentationPipeline) else 1
        means = " ".join(f"{value:>31.2f}" for value in values.mean(axis=0) * scale)
        print(f"{solver:<14}{steps:>6}{seconds:>12.2f} {means}", flush=True)
    print(f"peak memory: {peak_memory(model.device)}")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
