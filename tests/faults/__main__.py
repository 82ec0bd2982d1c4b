"""Disturb the program, and print what it survived.

    python -m tests.faults --what kill,space --targets save,stage:report --every 5 --out table.md

`--what`: kill, tear, space, io, readonly, corrupt, hostile, or all. `--targets`: names of tests/faults/targets.py (what
writes), readers.py (what reads) or words in the names of hostile.py's cases; all when not given. `--every N` takes
every N-th operation, or pair of a file and a damage; `--most N` at most so many a target and kind.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.faults.injector import KINDS, preloaded
from tests.faults.server import Server
from tests.faults.trials import Bench, Outcome, attacked, corrupted, disturbed

SHOWN = 3
"""Kinds of failure that a line of the table names."""
NUMBERS = re.compile(r"\d{4,}(-\d+)*")
"""Processes in the names of files; they make no two failures different."""
HEAVY = ("tests.faults.stage_targets", "tests.faults.model_readers")


def trials(bench: Bench, what: list[str], wanted: list[str], every: int, most: int) -> Iterator[Outcome]:
    kinds = [kind for kind in KINDS if kind in what]
    for name in bench.server.targets:
        if kinds and (name in wanted or not wanted):
            yield from _noted(name, disturbed(bench, name, kinds, every, most))
    for name in bench.server.readers:
        if "corrupt" in what and (name in wanted or not wanted):
            yield from _noted(name, corrupted(bench, name, every, most))
    for name in bench.server.cases:
        if "hostile" in what and (not wanted or any(word in name for word in wanted)):
            yield from _noted(name, attacked(bench, name))


def _noted(name: str, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """The outcomes; what does not even work undisturbed is one, too."""
    try:
        yield from outcomes
    except RuntimeError as error:
        yield Outcome("none", name, "before", " ".join(str(error).split())[-200:])


def table(outcomes: list[Outcome]) -> str:
    """Markdown: fault and target, trials, survived, and what failed, the most frequent first."""
    lines = ["| fault | target | trials | survived | what failed |", "| --- | --- | --- | --- | --- |"]
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.fault, outcome.target), []).append(outcome)
    for (fault, target), found in groups.items():
        failures: dict[str, int] = {}
        for outcome in found:
            if outcome.failed:
                words = NUMBERS.sub("N", outcome.failed.partition(" '")[0].rstrip(":"))
                failures[words] = failures.get(words, 0) + 1
        shown = sorted(failures.items(), key=lambda item: -item[1])
        told = "; ".join(f"{text} ({count})" for text, count in shown[:SHOWN]) + "; ..." * (len(shown) > SHOWN)
        survived = sum(not outcome.failed for outcome in found)
        lines.append(f"| {fault} | {target} | {len(found)} | {survived} | {told.replace('|', '/')} |")
    lines.append(f"| all | | {len(outcomes)} | {sum(not outcome.failed for outcome in outcomes)} | |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--what", default="all")
    parser.add_argument("--targets", default="")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--most", type=int, default=10**9)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path, help="where trials are run; a temporary folder by default")
    given = parser.parse_args()
    what = [*KINDS, "corrupt", "hostile"] if given.what == "all" else given.what.split(",")
    wanted = given.targets.split(",") if given.targets else []
    outcomes = []
    with (
        tempfile.TemporaryDirectory(prefix="faults-", dir=given.folder) as folder,
        Server(preloaded(), HEAVY) as server,
    ):
        for outcome in trials(Bench(Path(folder), server), what, wanted, given.every, given.most):
            print(f"{outcome.fault}, {outcome.target}, {outcome.where}: {outcome.failed or 'survived'}", flush=True)
            outcomes.append(outcome)
    text = table(outcomes)
    print(text)
    if given.out:
        given.out.write_text(text)
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
