"""Means over objects, the recall curves and the printed tables."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.evaluation import published
from pipeline.evaluation.conventions import lines
from pipeline.evaluation.paper_tables import COMPLETIONS, completion_rows, print_tables
from pipeline.evaluation.summary import DIFFERENCE, summarise, write_recall
from pipeline.params.complete import ALONE
from pipeline.report.result_tables import result_tables


def row(table: str, method: str, setting: str, figure: str, object_id: str, value: float) -> dict[str, Any]:
    named = {"table": table, "method": method, "setting": setting, "figure": figure}
    return {**named, "object_id": object_id, "value": value}


def of_objects(table: str, method: str, setting: str, figure: str, **values: float) -> list[dict[str, Any]]:
    return [row(table, method, setting, figure, object_id, value) for object_id, value in values.items()]


def test_means_are_over_the_objects_that_have_the_figure() -> None:
    rows = [
        *of_objects("completion", "none", "views", "psnr_foreground", a=10.0, b=20.0),
        *of_objects("completion", "none", "views", "ssim", a=0.123456789),
    ]
    figures = summarise(pd.DataFrame(rows[::-1]), seed=0)["completion"]["none"]["views"]
    assert figures["psnr_foreground"] == {"mean": 15.0, "low": 10.0, "high": 20.0, "count": 2}
    assert figures["ssim"] == {"mean": 0.12346, "low": 0.12346, "high": 0.12346, "count": 1}


def test_differences_pair_the_objects_that_both_have() -> None:
    rows = [
        *of_objects("reassembly", "whole", "3d", "psnr", a=10.0, b=20.0, d=5.0),
        *of_objects("reassembly", "predicted parts", "3d", "psnr", a=9.0, b=19.0, c=50.0),
        *of_objects("reassembly", "predicted parts", "shape", "chamfer", a=0.5),
    ]
    found = summarise(pd.DataFrame(rows), seed=0)["reassembly"]
    assert found["predicted parts"][DIFFERENCE] == {"psnr": {"mean": -1.0, "low": -1.0, "high": -1.0, "count": 2}}
    assert found["predicted parts"]["3d"]["psnr"]["count"] == 3
    assert DIFFERENCE not in found["whole"]


def test_recall_curves_are_in_the_order_of_k(tmp_path: Path) -> None:
    rows = [
        *of_objects("segmentation", "partgen 1", "seeded", "recall50_at_10", a=1.0, b=0.5),
        *of_objects("segmentation", "partgen 1", "seeded", "recall50_at_3", a=0.5, b=0.5),
        *of_objects("segmentation", "partgen 1", "seeded", "recall75_at_3", a=0.25),
        *of_objects("segmentation", "partgen 1", "seeded", "ap50", a=1.0),
    ]
    write_recall(tmp_path / "plots/recall.csv", summarise(pd.DataFrame(rows), seed=0)["segmentation"])
    assert (tmp_path / "plots/recall.csv").read_text().splitlines() == [
        "method,mode,threshold,k,recall",
        "partgen 1,seeded,0.5,3,0.5",
        "partgen 1,seeded,0.5,10,0.75",
        "partgen 1,seeded,0.75,3,0.25",
    ]


def test_a_network_alone_and_with_pixels_kept_are_two_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        *of_objects("completion", f"complete{ALONE}", "views", "psnr_foreground", a=12.0),
        *of_objects("completion", "complete", "views", "psnr_foreground", a=15.0),
        *of_objects("completion", "complete_no_context", "views", "psnr_foreground", a=9.0),
    ]
    summary = summarise(pd.DataFrame(rows), seed=0)
    print_tables(summary)
    printed = capsys.readouterr().out.splitlines()
    views = [line for line in printed if "B(I" in line][:4]
    alone, kept, other, missing = [" ".join(line.split()) for line in views]
    assert alone == "PartGen B(I*M, I), network alone 12.00 [12.00, 12.00] 0.974 / 0.015 / 21.38"
    assert kept == "PartGen B(I*M, I), visible pixels kept 15.00 [15.00, 15.00]"
    assert other == "without context B(I*M) 9.00 [9.00, 9.00] 0.951 / 0.028 / 16.80"
    assert missing == "single view B(I_v*M_v, I_v) not measured 0.944 / 0.031 / 15.92"
    shown = next(table for table in result_tables(summary) if table.title == COMPLETIONS["views"])
    assert [[cell.text for cell in cells] for cells in shown.rows.values()] == [
        ["not measured", "1.000 / 0.000 / inf"],
        ["12.00", "0.974 / 0.015 / 21.38"],
        ["15.00", ""],
        ["9.00", "0.951 / 0.028 / 16.80"],
        ["not measured", "0.944 / 0.031 / 15.92"],
        ["not measured", "0.932 / 0.039 / 13.24"],
    ]


def test_parts_completed_together_have_a_row_where_they_were_asked_for() -> None:
    rows = of_objects("completion", "complete_joint", "views", "psnr_foreground", a=12.0)
    found = completion_rows(summarise(pd.DataFrame(rows), seed=0)["completion"])
    assert found.pop("all parts together B(I*M, I)")[0] == ""
    assert found == completion_rows({})


def test_tables_say_what_is_exact_and_show_the_paper_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        *of_objects("completion", "oracle", "views", "psnr_exact", a=1.0),
        *of_objects("completion", "none", "views", "psnr_exact", a=0.25),
        *of_objects("completion", "none", "views", "psnr_foreground", a=12.0),
        *of_objects("completion", "none", "views", "clip", a=0.5),
        *of_objects("completion", "none", "views", "lpips", a=0.5),
        *of_objects("completion", "none", "views", "st_lpips", a=0.5),
        *of_objects("completion", "none", "views", "ssim", a=0.5),
        *of_objects("segmentation", "partgen 10", "automatic", "ap50", a=0.5),
        *of_objects("segmentation", "partgen 5", "automatic", "ap50", a=0.25, b=0.25),
        *of_objects("segmentation", "partgen 5", "automatic, large parts", "ap50", a=0.75),
    ]
    for method in ("partgen 5", "partgen 10"):
        for mode in ("automatic", "seeded"):
            for figure in (f"recall{threshold}_at_{k}" for threshold in (50, 75) for k in (1, 3, 5, 10)):
                rows += of_objects("segmentation", method, mode, figure, a=0.5)
    print_tables(summarise(pd.DataFrame(rows), seed=0))
    printed = capsys.readouterr().out.splitlines()
    (oracle, _) = [line for line in printed if "oracle J" in line]
    assert oracle.split()[-6:] == ["exact", "1.000", "/", "0.000", "/", "inf"]
    (none, _) = [line for line in printed if "none, J" in line]
    assert "12.00 [12.00, 12.00] (25.0% exact)" in none
    five, ten = [number for number, line in enumerate(printed) if line.startswith(" PartGen, ")][:2]
    assert five < ten
    assert "25.0 [25.0, 25.0]" in printed[five]
    assert "75.0 [75.0, 75.0]" in printed[five]
    assert any("(objects: all parts of 2, large parts of 1)" in line for line in printed)
    assert "59.3 / 38.5" in printed[ten]
    assert not any("…" in line for line in printed)  # nothing is cut
    assert printed[-1] == published.NOTE


def test_conventions_are_a_line_each() -> None:
    told = {"one": {"two": "three", "four": {"five": 6.0, "seven": [8]}}, "nine": 10}
    assert lines(told) == ["one:", "  two: three", "  four: five 6, seven [8]", "nine: 10"]
