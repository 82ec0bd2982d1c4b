"""Completion of an object's parts together (`complete_joint`, supplement E) against one by one.

    python -m benchmarks.joint_completion [--data data] [--networks weights/nano/complete data/models/complete_joint]

The true parts of the objects of a split are completed by each network, from the same noise, as many times as
`complete.draws` says. Printed, with 95 % intervals over objects, are the mean over draws; the draws that `complete`
takes, of each part the one whose silhouettes agree best; and the one draw whose parts agree best on average. Below each
is the difference of every further network to the first, pair by pair.

| measure | is |
|---|---|
| PSNR, as drawn | dB of the views, of the foreground of the true part, with nothing pasted |
| PSNR, kept | the same with the visible pixels in place, as `complete.keep_visible` has it |
| overlap | pixels where the silhouettes of two parts overlap and those of the true parts do not, of the object's |
| contested | cells inside the visual hulls of two parts, of those inside any, less the true parts' own share |
| empty | share of the parts whose hull is empty, of those whose true hull is not |

Shape suffixes: N parts, V views of H W pixels.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.joint import Example, examples, tensor
from benchmarks.reconstruction import interval
from pipeline.diffusion.pipelines import CompletionPipeline
from pipeline.errors import NoObjects
from pipeline.params.base import load_group
from pipeline.params.complete import CompleteParams
from pipeline.params.render import RenderParams
from pipeline.parts.completion import _kept, draw
from pipeline.reconstruction.carving import HULL_CELLS, INSIDE, Carver, silhouettes
from pipeline.reconstruction.rays import split_views
from pipeline.shards.table import WHOLE
from pipeline.views.cameras import Camera, over_white, shown
from pipeline.views.psnr import psnr
from stages.entry import one_sentence_errors

CHOICES = ("one draw", "of each part the best draw", "the draw that is best as a whole")
MEASURES = ("PSNR, as drawn", "PSNR, kept", "overlap", "contested", "empty")
Grids = Mapping[int, np.ndarray]
"""Parts by label, (2H, 2W, 3) float32 over white."""


class Truth:
    """The true parts of an object, and what pictures of them are measured by."""

    def __init__(self, example: Example, carver: Carver) -> None:
        self.example, self.carver = example, carver
        self.whole = over_white(example.grids[WHOLE])
        self.parts = {part: grid for part, grid in example.grids.items() if part != WHOLE}
        self.masks = {part: example.labels == part for part in self.parts}
        drawn = {part: over_white(grid) for part, grid in self.parts.items()}
        self.seen_NVHW, self.hulls_N = self._claims(drawn)

    def _claims(self, grids: Grids) -> tuple[Tensor, Tensor]:
        """The silhouettes of parts, bool (N, V, H, W), and the cells inside their hulls, (N, D, H, W)."""
        outlines = [silhouettes(split_views(tensor(grid)[None])[0]) for grid in grids.values()]
        hulls = [self.carver.hull(outline_VHW) > INSIDE for outline_VHW in outlines]
        return torch.stack(outlines) > 0.5, torch.stack(hulls)

    def measured(self, drawn: Grids, kept: Grids) -> list[float]:
        """By MEASURES: of the pictures as drawn, and, but for the first, with the visible pixels kept."""
        seen_NVHW, hulls_N = self._claims(kept)
        both_VHW = (seen_NVHW.sum(dim=0) > 1) & (self.seen_NVHW.sum(dim=0) < 2)
        known_N = self.hulls_N.flatten(1).any(dim=1)
        empty_N = ~hulls_N.flatten(1).any(dim=1)
        return [
            self._psnr(drawn),
            self._psnr(kept),
            float(both_VHW.sum() / shown(self.example.grids[WHOLE]).sum()),
            contested(hulls_N) - contested(self.hulls_N),
            float(empty_N[known_N].float().mean()),
        ]

    def _psnr(self, grids: Grids) -> float:
        values = [float(psnr(grids[part], over_white(true), shown(true))) for part, true in self.parts.items()]
        return float(np.mean([value for value in values if np.isfinite(value)]))


def contested(hulls_N: Tensor) -> float:
    """The share of the cells inside any hull, bool (N, D, H, W), that are inside two or more."""
    claims = hulls_N.sum(dim=0)
    return float((claims > 1).sum() / (claims > 0).sum().clamp(min=1))


def completed(truth: Truth, model: CompletionPipeline, params: CompleteParams) -> np.ndarray:
    """The measures of an object, (CHOICES, MEASURES)."""
    draws = [draw(model, truth.whole, truth.masks, params.seed + number) for number in range(params.draws)]
    kept = [_kept(drawn, truth.whole, truth.masks, True) for drawn in draws]
    each = [truth.measured(*pair) for pair in zip(draws, kept, strict=True)]
    agreements = np.array([[truth.carver.agreement(tensor(one[part])) for part in truth.parts] for one in kept])
    best = dict(zip(truth.parts, agreements.argmax(axis=0), strict=True))
    taken = [{part: some[number][part] for part, number in best.items()} for some in (draws, kept)]
    together = int(agreements.mean(axis=1).argmax())
    return np.array([np.mean(each, axis=0), truth.measured(*taken), each[together]])


def load(folder: Path) -> CompletionPipeline:
    """The network of a folder."""
    model = CompletionPipeline.from_pretrained(folder)
    model.set_progress_bar_config(disable=True)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def tables(results: Mapping[str, np.ndarray], ids: Sequence[str]) -> str:
    """Of the measures by network, (objects, CHOICES, MEASURES), and of the differences to the first one's."""
    first = next(iter(results))
    rows = {**results, **{f"{name} - {first}": results[name] - results[first] for name in list(results)[1:]}}
    lines = []
    for place, title in enumerate(CHOICES):
        lines.append(f"{title:<36}" + "".join(f"{measure:^29}" for measure in MEASURES))
        for name, values in rows.items():
            lines.append(f"  {name:<34}" + "".join(f" {interval(column, ids)}" for column in values[:, place].T))
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of renders and masks")
    networks = [Path("weights/nano/complete"), Path("data/models/complete_joint")]
    parser.add_argument("--networks", type=Path, nargs="+", default=networks, help="folders, the first to compare with")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--objects", type=int, help="the first of the split; all by default")
    arguments = parser.parse_args()
    params, render = load_group(CompleteParams), load_group(RenderParams)
    carver = Carver(Camera(render.fov_deg, render.distance, render.view_size), render.elevation_deg, HULL_CELLS)
    truths = [Truth(each, carver) for each in examples(arguments.data, arguments.split, arguments.objects)]
    if not truths:
        raise NoObjects(f"{arguments.data} has no object of two parts of the split {arguments.split}; name another.")
    results = {
        folder.name: np.array([completed(truth, model, params) for truth in truths])
        for folder, model in ((folder, load(folder)) for folder in arguments.networks)
    }
    print(f"true masks, {len(truths)} objects, {params.draws} draws")
    print(tables(results, [truth.example.object_id for truth in truths]))


if __name__ == "__main__":
    with one_sentence_errors():
        main()
