"""The DAG, read from DVC: dvc.yaml states it, and nothing here says it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from pipeline.errors import UserError

DEVICES = ("cpu", "gpu")


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml."""

    name: str
    needs: tuple[str, ...]
    """The stages whose outputs it reads directly, sorted."""
    device: str
    """`meta.device` in dvc.yaml: what the stage uses where there is one. It becomes the task's tag."""
    outs: tuple[str, ...]
    """The data that it makes, relative to the project."""
    metrics: tuple[str, ...]
    """Its metrics files, relative to the project."""
    pictures: tuple[str, ...]
    """Those of its plots that are PNG files, relative to the project."""


def read_graph(root: Path) -> dict[str, Stage]:
    """The stages of the project at `root` by name, each after those it needs.

    UserError when there is no DVC project, or when dvc.yaml does not make a graph.
    """
    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph  # an edge leads from a stage to one that it needs
            # Lexicographical, so that the order of independent stages does not change from run to run.
            order = networkx.lexicographical_topological_sort(graph.reverse(), key=lambda node: node.addressing)
            stages = [_stage(node, graph) for node in order if isinstance(node, PipelineStage)]
    except DvcException as error:
        raise UserError(f"{root / 'dvc.yaml'}: {' '.join(str(error).split())}.") from None
    if not stages:
        raise UserError(f"{root} has no stages in a dvc.yaml; start in the project's folder.")
    return {stage.name: stage for stage in stages}


def with_needed(graph: dict[str, Stage], wanted: Sequence[str]) -> list[Stage]:
    """`wanted` stages (all when empty) and everything they need, in the graph's order; UserError for an unknown one."""
    for name in wanted:
        if name not in graph:
            raise UserError(f"There is no stage `{name}`; the stages are {', '.join(graph)}.")
    chosen: set[str] = set()
    pending = list(wanted or graph)
    while pending:
        name = pending.pop()
        if name not in chosen:
            chosen.add(name)
            pending += graph[name].needs
    return [stage for name, stage in graph.items() if name in chosen]


def _stage(node: PipelineStage, graph: networkx.DiGraph) -> Stage:
    device = (node.meta or {}).get("device", "cpu")
    if device not in DEVICES:
        raise UserError(f"dvc.yaml: stage {node.name} has meta.device {device!r}; it is one of {', '.join(DEVICES)}.")
    return Stage(
        name=node.name,
        needs=tuple(sorted(needed.name for needed in graph.successors(node) if isinstance(needed, PipelineStage))),
        device=device,
        outs=tuple(str(out.def_path) for out in node.outs if not out.metric and not out.plot),
        metrics=tuple(str(out.def_path) for out in node.outs if out.metric),
        pictures=tuple(str(out.def_path) for out in node.outs if out.plot and str(out.def_path).endswith(".png")),
    )
