"""Stage `reconstruct`: the parts of the completed objects as fields, meshes, and pictures from novel views."""

from pathlib import Path
from typing import Any

from pipeline.heldout.reconstruct_inputs import deciding, tasks
from pipeline.heldout.reconstruct_object import reconstruct_object
from pipeline.heldout.reconstruct_tables import FIELDS, OBJECTS, PARTS, VIEWS
from pipeline.params.base import load_group
from pipeline.params.reconstruct import ReconstructParams
from pipeline.params.reconstruction import ReconstructionParams
from pipeline.shards.build import Report, build_shards
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.write import write_metrics
from stages.entry import stage_main


def run(
    params: ReconstructParams, reconstruction: ReconstructionParams, data: Path = Path("data"), force: bool = False
) -> Report:
    """Reconstruct the parts of all objects of the stage complete."""
    settings = read_manifest(data / "completions/grids").settings
    report = build_shards(
        stage="reconstruct",
        out=data / "reconstructions",
        tables=(VIEWS, PARTS, OBJECTS, FIELDS),
        items=list(tasks(data, data / "models/lrm", params, reconstruction)),
        function=reconstruct_object,
        shards=settings["shards"],
        settings={**settings, "reconstruct": deciding(params, reconstruction)},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    write_metrics("reconstruct", _metrics(data / "reconstructions", report))
    return report


def _metrics(out: Path, report: Report) -> dict[str, Any]:
    """What lies in the tables; how good it is, the stage `evaluate` says."""
    parts = read_table(out / PARTS.name, ["absent", "triangles"])
    return {
        "objects": report.total - len(report.failures),
        "failed": len(report.failures),
        "parts": len(parts),
        "absent": sum(reason != "" for reason in parts.column("absent").to_pylist()),
        "triangles": sum(parts.column("triangles").to_pylist()),
    }


if __name__ == "__main__":
    stage_main(ReconstructParams, lambda params: run(params, load_group(ReconstructionParams)))
