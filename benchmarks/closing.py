"""Hidden surfaces: parts of fused objects beside the true ones, with their openings left, capped or completed.

    python -m benchmarks.closing [--data data] [--models data/models] [--objects 4] [--ways none cap complete]

Of the evaluated objects whose fused surface the stage `atoms` keeps, the first by their ids are taken apart by
`partgen decompose` with every `--close`. Prints chamfer distances and F-scores in percent of each true part, as it was
modelled, and the part with the largest IoU, means with intervals over objects, and seconds an object.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from partgen import PartGenPipeline
from pipeline.evaluation.bootstrap import mean_interval
from pipeline.evaluation.part_shapes import mean_figures, triangles
from pipeline.evaluation.shape_metrics import shape_distance
from pipeline.evaluation.surface_regimes import SurfaceRegime, true_parts
from pipeline.shards.dataset import ObjectRows
from pipeline.surface.close import Close
from pipeline.surface.scores import overlaps
from stages.entry import one_sentence_errors

POINTS, SEED = 10_000, 0


def corners(glb: bytes) -> np.ndarray:
    """The triangles (F, 3, 3) of a GLB in place."""
    return np.asarray(trimesh.load_scene(io.BytesIO(glb), file_type="glb", process=False).to_mesh().triangles)


def matched(parts: list[np.ndarray], skin: SurfaceRegime) -> np.ndarray:
    """(S,) Of every true part the part, still open, that overlaps most with it, as their triangles are the skin's."""
    centres = cKDTree(skin.corners_F33.mean(axis=1))
    truth_PS = np.zeros((len(parts), int(skin.part_F.max())))
    for shares_S, part in zip(truth_PS, parts, strict=True):
        truth_F = skin.part_F[centres.query(part.mean(axis=1))[1]] - 1
        area_F = np.linalg.norm(np.cross(part[:, 1] - part[:, 0], part[:, 2] - part[:, 0]), axis=1) / 2
        np.add.at(shares_S, truth_F, area_F)
    return np.asarray(overlaps(truth_PS, np.arange(len(parts))).argmax(axis=0))


def measured(partgen: PartGenPipeline, rows: dict[str, Any], ways: list[Close]) -> dict[str, dict[str, float]]:
    """The figures of one object by `--close`."""
    regimes = SurfaceRegime.all_of(rows["atoms"], rows["surfaces"])
    truths, skin = true_parts(regimes), next(one for one in regimes if one.name == "C")
    glb = next(row["glb"] for row in rows["surfaces"] if row["regime"] == "C")
    found, match_S = {}, None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "skin.glb"
        path.write_bytes(glb)
        for way in dict.fromkeys(["none", *ways]):
            started = time.monotonic()
            made = partgen.decompose(path, seed=SEED, frame="file", close=way)
            seconds = time.monotonic() - started
            parts = [corners(part.glb) for part in made.parts if part.glb]
            match_S = matched(parts, skin) if match_S is None else match_S
            pairs = zip(match_S, truths, strict=False)
            near = [shape_distance(triangles(parts[part]), truth, SEED, POINTS) for part, truth in pairs]
            found[way] = {**mean_figures(near), "seconds": seconds}
    return found


def main() -> None:
    """Measure and print a line a way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("data/models"))
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--ways", nargs="+", default=list(get_args(Close)), choices=get_args(Close))
    given = parser.parse_args()
    partgen = PartGenPipeline.from_pretrained(given.models)
    tables = {name: ObjectRows(given.data / "atoms" / name) for name in ("atoms", "surfaces")}
    results: dict[str, dict[str, list[float]]] = {way: {} for way in given.ways}
    for object_id in sorted(tables["surfaces"].numbers)[: given.objects]:
        found = measured(partgen, {name: table.of(object_id) for name, table in tables.items()}, given.ways)
        for way in given.ways:
            for figure, value in found[way].items():
                results[way].setdefault(figure, []).append(value)
        print(object_id, {way: f"{found[way]['chamfer']:.4f}" for way in given.ways}, flush=True)
    for way, figures in results.items():
        said = [f"{name} {mean_interval(np.array(values), SEED)}" for name, values in figures.items()]
        print(f"{way:>9}: {'; '.join(said)}")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
