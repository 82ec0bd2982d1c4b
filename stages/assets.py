"""Stage assets: real 3D objects become normalised GLBs with one named node a part."""

from pathlib import Path

from pipeline.assets.build import build_object
from pipeline.assets.collect import asset_splits, collect_assets, work_items
from pipeline.assets.summary import summarise, write_plots
from pipeline.assets.tables import GLBS, OBJECTS, PARTS
from pipeline.errors import UserError
from pipeline.params.assets import AssetsParams
from pipeline.shards.build import Report, build_shards
from pipeline.shards.read import read_table
from pipeline.shards.write import write_metrics
from stages.entry import stage_main

OUT = Path("data/assets")
PLOTS = Path("plots")
TASKS_PER_WORKER = 200
"""Objects after which a worker is replaced, since large ones leave its heap fragmented."""


def run(params: AssetsParams, force: bool = False) -> Report:
    """Build data/assets, metrics/assets.json and the stage's plots."""
    assets, absent = collect_assets(params)
    report = build_shards(
        stage="assets",
        out=OUT,
        tables=(OBJECTS, PARTS, GLBS),
        items=work_items(assets, params),
        function=build_object,
        shards=params.shards,
        settings=params.model_dump(mode="json"),
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        tasks_per_worker=TASKS_PER_WORKER,
        force=force,
    )
    metrics = summarise(OUT, absent)
    write_metrics("assets", metrics)
    write_plots(metrics, PLOTS)
    if not metrics["kept"]:
        reason = next(iter(metrics["dropped_by_reason"]), "all failed")
        raise UserError(
            f"None of the {metrics['objects']} objects can be used: {reason}; the reasons are in {OUT / 'objects'}."
        )
    asset_splits(assets, params).check_kept(read_table(OUT / "objects").to_pylist())
    return report


if __name__ == "__main__":
    stage_main(AssetsParams, run)
