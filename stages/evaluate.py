"""Stage `evaluate`: the paper's Tables 1 to 3 on the held-out objects, printed beside its numbers."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.evaluation.conventions import conventions, lines
from pipeline.evaluation.evaluate_object import FIGURES, evaluate_object
from pipeline.evaluation.inputs import HOW_TO_RUN, failures, tasks
from pipeline.evaluation.summary import Summary, headlines, summarise, write_recall
from pipeline.evaluation.tables import print_tables
from pipeline.params.evaluate import EvaluateParams
from pipeline.shards.build import Report, build_shards
from pipeline.shards.read import read_manifest, read_table
from pipeline.shards.write import write_metrics
from stages.entry import stage_main

METRICS = Path("metrics/evaluate.json")
RECALL = Path("plots/evaluate/recall.csv")


def run(params: EvaluateParams, data: Path = Path("data"), force: bool = False) -> Report:
    """Evaluate all objects that were segmented."""
    items = list(tasks(data, params))
    settings = read_manifest(data / "reconstructions/views").settings
    report = build_shards(
        stage="evaluate",
        out=data / "evaluation",
        tables=(FIGURES,),
        items=items,
        function=evaluate_object,
        shards=settings["shards"],
        settings={**settings, "evaluate": params.model_dump(exclude=HOW_TO_RUN)},
        max_failed_share=params.max_failed_share,
        timeout_s=params.timeout_s,
        force=force,
    )
    summary = summarise(read_table(data / "evaluation/figures").to_pylist(), params.seed)
    said = conventions(data, params)
    failed = {**failures(data), "evaluate": len(report.failures)}
    write_metrics("evaluate", {**summary, "conventions": said, "objects": report.total, "failed": failed})
    write_metrics("summary", {**headlines(summary), "objects": report.total})
    write_recall(RECALL, summary["segmentation"])
    _print(summary, said, report.total, failed)
    return report


def show(metrics: Path = METRICS, report: Path = Path("data/report/index.html")) -> None:
    """Print the tables as they were made last, and where the report is; UserError when they were not made yet."""
    if not metrics.is_file():
        raise UserError(f"There is no {metrics}; run the stage `evaluate`, which makes the tables.")
    values = json.loads(metrics.read_text(encoding="utf-8"))
    said, objects, failed = (values.pop(name) for name in ("conventions", "objects", "failed"))
    _print(values, said, objects, failed)
    if report.is_file():
        print(f"The report: {report.resolve()}")


def _print(summary: Summary, said: dict[str, Any], objects: int, failed: dict[str, int]) -> None:
    print("What the figures depend on", *lines(said), sep="\n")
    print_tables(summary)
    print(f"\n{objects} objects; failed: {', '.join(f'{stage} {number}' for stage, number in failed.items())}")


if __name__ == "__main__":
    stage_main(EvaluateParams, run)
