"""Ways to make parts with a look at each other (supplement E), against none: two rules, and the joint model.

    python -m benchmarks.joint [--data data] [--models weights/nano] [--split val] [--objects N] [--sources grids]

`labels`: what of a part would hide a pixel that the label map gives to another part is emptied; `labels, eroded`: only
where all pixels around say so, too. `choice`: of the draws of all parts' completions the combination is taken that
agrees with itself best, by coordinate ascent from each part's best alone: the sum of the draws' agreements, less
OVERLAP times the IoU of each two hulls, less HIDDEN times the share of the object's pixels that one hides of another.
`lrm_joint`: without a rule, by the joint reconstruction model. `whole at once`: the object without parts.

Parts of the true masks and of the masks that `segment` finds, completed and reconstructed by the models, and the true
grids of the parts. Printed, with 95 % intervals over objects, are the share of the volume that two or more parts claim,
less that of the true grids by `lrm`, PSNR of the object put together, of all pixels and of the foreground, and, but for
masks that were found, of each part alone; then the difference of each rule to none, pair by pair.

Shape suffixes: V views of H W pixels, M cells of a field's support.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.reconstruction import interval
from pipeline.applications.models import Models
from pipeline.applications.selection import choose_parts
from pipeline.applications.settings import Settings
from pipeline.diffusion.pipelines import CompletionPipeline, SegmentationPipeline
from pipeline.errors import NoObjects
from pipeline.params.choice import Choice
from pipeline.params.reconstruct import ReconstructParams
from pipeline.parts.completion import _kept, draw
from pipeline.project import default_params
from pipeline.reconstruction.carving import HULL_CELLS, INSIDE, Carver, silhouettes
from pipeline.reconstruction.field import Field
from pipeline.reconstruction.overlap import part_overlap
from pipeline.reconstruction.part_views import render_parts
from pipeline.reconstruction.rays import Rays, split_views, stacked, view_rays
from pipeline.shards.dataset import ObjectRows
from pipeline.shards.read import read_table
from pipeline.shards.table import WHOLE, decode_png
from pipeline.views.cameras import over_white, shown, untile
from pipeline.views.psnr import psnr
from stages.entry import one_sentence_errors

MARGIN = 0.06
"""A cell hides a surface when it is nearer by this; 1 is the object's radius."""
OVERLAP, HIDDEN = 1.0, 1.0
MEASURES = ("contested - true parts'", "PSNR, dB", "foreground PSNR, dB", "parts alone, dB", "alone, foreground")
JOINT, AT_ONCE = "lrm_joint", "whole at once"
RULES = ("none", "labels", "labels, eroded", "choice", "choice; labels, eroded", JOINT, AT_ONCE)
SOURCES = ("grids", "true", "predicted")

Grids = Mapping[int, np.ndarray]
"""Parts by label, (2H, 2W, 3) float32 over white."""


@dataclass(frozen=True)
class Example:
    """An object with its true parts."""

    object_id: str
    grids: Mapping[int, np.ndarray]
    """Of the whole (0) and the parts, (2H, 2W, 4) uint8."""
    novel: Mapping[int, np.ndarray]
    """The four views to be seen, likewise."""
    cameras: Sequence[tuple[float, float]]
    """Azimuth and elevation of each, in degrees."""
    labels: np.ndarray
    """(2H, 2W) uint8."""


class Rules:
    """What the rules need of one object's draws."""

    def __init__(self, carver: Carver, draws: Sequence[Grids], labels: np.ndarray) -> None:
        self.carver, self.labels_VHW = carver, torch.from_numpy(untile(labels).astype(np.int64))
        self.parts, self.draws = list(draws[0]), draws
        self.eyes_V3 = carver.poses_V44[:, :3, 3]
        self.agreement, self.inside, self.depth = dict[Any, float](), dict[Any, Tensor](), dict[Any, Tensor]()
        for key in ((part, number) for part in self.parts for number in range(len(draws))):
            grid_CHW = tensor(draws[key[1]][key[0]])
            outlines_VHW = silhouettes(split_views(grid_CHW[None])[0])
            self.agreement[key] = carver.agreement(grid_CHW)
            self.inside[key] = carver.hull(outlines_VHW) > INSIDE
            self.depth[key] = (carver.surface(outlines_VHW) - self.eyes_V3[:, None, None]).norm(dim=-1)

    def alone(self) -> dict[int, int]:
        """Each part's draw that agrees with itself best, as `complete` takes it."""
        return {part: max(range(len(self.draws)), key=lambda one: self.agreement[part, one]) for part in self.parts}

    def grids(self, taken: Mapping[int, int]) -> Grids:
        """Each part as its taken draw has it."""
        return {part: self.draws[number][part] for part, number in taken.items()}

    def joint(self) -> dict[int, int]:
        """The draws that agree best together."""
        taken, before = self.alone(), None
        while taken != before:
            before = dict(taken)
            for part in self.parts:
                scores = [self._score(part, number, taken) for number in range(len(self.draws))]
                if max(scores) > scores[taken[part]]:
                    taken[part] = int(np.argmax(scores))
        return taken

    def _score(self, part: int, number: int, taken: Mapping[int, int]) -> float:
        mine, total = (part, number), self.agreement[part, number]
        for other in self.parts:
            if other != part:
                theirs = (other, taken[other])
                both, any_ = self.inside[mine] & self.inside[theirs], self.inside[mine] | self.inside[theirs]
                total -= OVERLAP * float(both.sum() / any_.sum().clamp(min=1))
                total -= HIDDEN * (self._hidden(mine, theirs) + self._hidden(theirs, mine))
        return total

    def _hidden(self, front: tuple[int, int], back: tuple[int, int]) -> float:
        """The share of the object's pixels that are one part's and that the hull of another would hide."""
        hides_VHW = (self.labels_VHW == back[0]) & (self.depth[front] < self.depth[back] - MARGIN)
        return float(hides_VHW.sum() / (self.labels_VHW > 0).sum().clamp(min=1))

    def unhiding(self, fields: Mapping[int, Field], taken: Mapping[int, int], eroded: bool) -> dict[int, Field]:
        """The fields without the cells that would hide a pixel of another part's label."""
        limit_VHW = torch.full(self.labels_VHW.shape, -torch.inf)
        for part in self.parts:
            depth_VHW = self.depth[part, taken[part]]
            seen_VHW = (self.labels_VHW == part) & depth_VHW.isfinite()
            limit_VHW[seen_VHW] = depth_VHW[seen_VHW] - MARGIN
        return {part: self._emptied(part, field, limit_VHW, eroded) for part, field in fields.items()}

    def _emptied(self, part: int, field: Field, limit_VHW: Tensor, eroded: bool) -> Field:
        if field.support_DHW is None or field.is_empty:
            return field
        others_VHW = (self.labels_VHW != WHOLE) & (self.labels_VHW != part)
        limit_VHW = torch.where(others_VHW, limit_VHW, -torch.inf)
        if eroded:
            limit_VHW = -F.max_pool2d(-limit_VHW[:, None].clamp(min=-99), 3, stride=1, padding=1)[:, 0]
        cells_M3, side = field.cells().cpu(), limit_VHW.shape[-1]
        hides_M = torch.zeros(len(cells_M3), dtype=torch.bool)
        for view, eye_3 in enumerate(self.eyes_V3):
            places_M2 = self.carver._projected(cells_M3, view)
            column_M, row_M = (((places_M2 + 1) / 2 * side).long().clamp(0, side - 1)).T
            in_view_M = (places_M2.abs() < 1).all(dim=1)
            hides_M |= in_view_M & ((cells_M3 - eye_3).norm(dim=1) < limit_VHW[view, row_M, column_M])
        support_DHW = field.support_DHW.clone()
        support_DHW[tuple(support_DHW.nonzero()[hides_M.to(support_DHW.device)].T)] = False
        return replace(field, support_DHW=support_DHW)


def tensor(grid: np.ndarray) -> Tensor:
    """A grid (2H, 2W, C) as (C, 2H, 2W) float32."""
    return torch.from_numpy(np.asarray(grid, np.float32)).movedim(-1, 0)


def examples(data: Path, split: str, objects: int | None) -> Iterator[Example]:
    """The first objects of a split that show two parts or more."""
    tables = {name: ObjectRows(data / f"renders/{name}") for name in ("grids", "novel")}
    labels = ObjectRows(data / "masks/labels", ["labels"])
    found = 0
    for row in read_table(data / "masks/labels", ["object_id", "split"]).to_pylist():
        if row["split"] != split or found == objects:
            continue
        map_HW = decode_png(labels.whole(row["object_id"])["labels"]["bytes"])
        if len(np.unique(map_HW[map_HW > 0])) < 2:
            continue
        found += 1
        rows = {name: table.of(row["object_id"]) for name, table in tables.items()}
        pictures = {name: {one["part_id"]: decode_png(one["image"]["bytes"]) for one in rows[name]} for name in rows}
        cameras = list(zip(rows["novel"][0]["azimuths"], rows["novel"][0]["elevations"], strict=True))
        yield Example(row["object_id"], pictures["grids"], pictures["novel"], cameras, map_HW)


def measured(
    example: Example, fields: Mapping[int, Field], rays: Rays, samples: int, settings: Settings, true: bool
) -> list[float]:
    """By MEASURES; contested as it is, and parts alone only where they are the true ones."""
    mesh, some = settings.reconstruct.mesh, list(fields.values())
    alone_NR3, joint_R3 = render_parts(some, rays, samples)
    contested = part_overlap(some, mesh.resolution, mesh.level).contested if len(some) > 1 else 0.0
    together, alone = _psnr(joint_R3, example.novel[WHOLE]), (np.nan, np.nan)
    if true:
        of_parts = [_psnr(alone_R3, example.novel[part]) for part, alone_R3 in zip(fields, alone_NR3, strict=True)]
        known = [[value for value in column if np.isfinite(value)] for column in zip(*of_parts, strict=True)]
        alone = (float(np.mean(known[0])), float(np.mean(known[1])))
    return [contested, *together, *alone]


def _psnr(colour_R3: Tensor, target: np.ndarray) -> tuple[float, float]:
    """Of all pixels of the four views, and of the foreground."""
    side, width = target.shape[0] // 2, target.shape[1]
    picture = colour_R3.clamp(0, 1).view(4 * side, width // 2, 3).cpu().numpy()
    truth = untile(target).reshape(4 * side, width // 2, 4)
    return float(psnr(picture, over_white(truth))), float(psnr(picture, over_white(truth), shown(truth)))


def by_rule(
    example: Example, models: Models, settings: Settings, carver: Carver, source: str, wanted: Sequence[str]
) -> dict[str, list[float]]:
    """The measures of every rule that is wanted."""
    whole, labels = over_white(example.grids[WHOLE]), example.labels
    if source == "predicted":
        model = models.get(SegmentationPipeline)
        labels = choose_parts(
            model, whole, shown(example.grids[WHOLE]), Choice(), settings.segment, settings.segment.seed, carver
        ).labels
    true = source != "predicted"
    ids = sorted(set(example.grids) - {WHOLE}) if true else np.unique(labels[labels > 0]).tolist()
    masks = {part: labels == part for part in ids}
    true_grids = {part: over_white(grid) for part, grid in example.grids.items() if part != WHOLE}
    if source == "grids":
        drawn: list[Grids] = [true_grids]
    else:
        completer, seed = models.get(CompletionPipeline), settings.complete.seed
        found = [draw(completer, whole, masks, seed + number) for number in range(settings.complete.draws)]
        drawn = [_kept(one, whole, masks, True) for one in found]
    rules = Rules(carver, drawn, labels)
    params, joint = settings.reconstruct, settings.reconstruct.model_copy(update={"reconstructor": JOINT})
    rays = stacked([view_rays(models.camera, *angles, models.device) for angles in example.cameras]).flat()

    def made(grids: Grids, by: ReconstructParams = params) -> dict[int, Field]:
        stack = torch.stack([tensor(grid) for grid in grids.values()]).to(models.device)
        told = None if WHOLE in grids else tensor(whole).to(models.device)
        fields = models.reconstructor(by, settings.reconstruction).fields(stack, told)
        return dict(zip(grids, fields, strict=True))

    def fields_by(rule: str) -> dict[int, Field]:
        if rule == AT_ONCE:
            return made({WHOLE: whole})
        taken = rules.joint() if rule.startswith("choice") else rules.alone()
        fields = made(rules.grids(taken), joint if rule == JOINT else params)
        return rules.unhiding(fields, taken, "eroded" in rule) if "labels" in rule else fields

    samples, mesh = models.reconstructor(params, settings.reconstruction).samples, params.mesh
    results = {
        rule: measured(example, fields_by(rule), rays, samples, settings, true and rule != AT_ONCE) for rule in wanted
    }
    floor = part_overlap(list(made(true_grids).values()), mesh.resolution, mesh.level).contested
    return {rule: [values[0] - floor, *values[1:]] for rule, values in results.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of renders and masks")
    parser.add_argument("--models", type=Path, default=Path("weights/nano"), help="folder of trained models")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"])
    parser.add_argument("--objects", type=int, help="the first of the split; all by default")
    parser.add_argument("--sources", nargs="+", default=SOURCES, choices=SOURCES, help="what parts are made of")
    parser.add_argument("--rules", nargs="+", default=RULES, choices=RULES, help="beside none")
    arguments = parser.parse_args()
    rules = list(dict.fromkeys(("none", *arguments.rules)))
    settings = Settings.load((), default_params())
    models = Models(arguments.models, settings.render)
    carver = Carver(models.camera, models.cameras["elevation_deg"], HULL_CELLS)
    found = list(examples(arguments.data, arguments.split, arguments.objects))
    if not found:
        raise NoObjects(f"{arguments.data} has no object of two parts of the split {arguments.split}; name another.")
    for source in arguments.sources:
        tables = [by_rule(example, models, settings, carver, source, rules) for example in found]
        values = {rule: np.array([table[rule] for table in tables]) for rule in rules}
        values |= {f"{rule} - none": values[rule] - values["none"] for rule in rules[1:]}
        what = f"{source} masks" if source != "grids" else "true grids"
        print(f"{what}, {len(found)} objects\n{'':<32}" + "".join(f"{measure:^29}" for measure in MEASURES))
        for rule, columns in values.items():
            print(f"  {rule:<30}" + "".join(f" {interval(one, [e.object_id for e in found])}" for one in columns.T))


if __name__ == "__main__":
    with one_sentence_errors():
        main()
