"""Stage `report`: one page of everything that was made of the held-out objects, which opens from disk."""

import sys
import time
from pathlib import Path

from pipeline.params.report import ReportParams
from pipeline.report.page import write_report
from pipeline.shards.scratch import only_writer
from pipeline.shards.write import write_metrics
from stages.entry import stage_main

OUT = "report"


def run(params: ReportParams, data: Path = Path("data"), force: bool = False) -> Path:
    """Write the report into `data`/report, and print where its page is. It is always made anew."""
    started = time.monotonic()
    with only_writer(data / OUT):
        page = write_report(data / OUT, data, data.parent, params.objects)
    files = [path for path in page.parent.rglob("*") if path.is_file()]
    write_metrics("report", {"files": len(files), "mb": round(sum(path.stat().st_size for path in files) / 2**20, 1)})
    print(f"report: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
    print(f"The report: {page.resolve()}")
    return page


if __name__ == "__main__":
    stage_main(ReportParams, run)
