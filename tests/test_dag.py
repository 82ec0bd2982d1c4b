"""dvc.yaml against what the code really reads and imports, and the order of the packages."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.graph import read_graph, with_needed
from pipeline.diffusion.tasks import TRAININGS
from pipeline.errors import UserError
from pipeline.params.all import GROUPS
from tests.imports import needed_files

ROOT = Path(__file__).parents[1]


def read_stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml, those of a `foreach` one by one as NAME@KEY."""
    stages = {}
    for name, entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        if "foreach" not in entry:
            stages[name] = entry
        for key, item in entry.get("foreach", {}).items():
            text = yaml.safe_dump(entry["do"]).replace("${key}", key)
            for field, value in item.items():
                text = text.replace(f"${{item.{field}}}", value)
            stages[f"{name}@{key}"] = yaml.safe_load(text)
    return stages


STAGES = read_stages()
CODE = ("pipeline", "stages")
RINGS = ("pipeline", "stages", "flows")
METHOD = {"parts", "heldout", "applications", "app"}
APART = {
    "stages": {"flows"},
    "evaluation": METHOD,
    "parts": {"heldout", "applications", "app", "evaluation"},
    "heldout": {"applications", "app", "evaluation"},
    "applications": {"heldout", "app", "evaluation"},
    "app": {"heldout", "evaluation", "training", "report"},
    "report": {"app"},
    "plan": {"app"},
    "regions": {*METHOD, "evaluation"},
    "reconstruction": {"diffusion"},
}
"""Packages, and those that they must not import."""
PLACES = {"train_lrm": "train/lrm", "train_grouping": "train/grouping"}
"""Of the params and metrics of a stage, where the name does not say it: these are no items of a `foreach`."""
SUMMARY = {"evaluate": "summary"}
"""The stage whose metrics are the means of another file, which has all."""


def outs(stage: dict[str, Any], *kinds: str) -> set[str]:
    """The data that a stage makes; with `kinds` such as metrics, those."""
    made = [out for kind in kinds or ("outs",) for out in stage.get(kind, ())]
    return {next(iter(out)) if isinstance(out, dict) else out for out in made}


def files_under(dep: str) -> set[Path]:
    path = ROOT / dep
    found = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file.relative_to(ROOT) for file in found if file.suffix != ".pyc" and file.name != "__init__.py"}


def test_the_graph_is_that_of_dvc_yaml() -> None:
    graph = read_graph(ROOT)
    makers = {out: name for name, stage in STAGES.items() for out in outs(stage, "outs", "metrics", "plots")}
    expected = {name: {makers[dep] for dep in stage["deps"] if dep in makers} for name, stage in STAGES.items()}
    assert {name: set(stage.needs) for name, stage in graph.items()} == expected
    for name, stage in graph.items():  # each after those it needs
        assert all(list(graph).index(needed) < list(graph).index(name) for needed in stage.needs)
        assert set(stage.outs) == outs(STAGES[name])
        assert stage.metrics == (f"metrics/{(PLACES | SUMMARY).get(name, name.replace('@', '/'))}.json",)


def test_wanted_stages_bring_what_they_need() -> None:
    graph = read_graph(ROOT)
    assert [stage.name for stage in with_needed(graph, ["masks"])] == ["assets", "render", "masks"]
    assert [stage.name for stage in with_needed(graph, [])] == list(graph)
    with pytest.raises(UserError, match="no stage `mask`; the stages are assets, render, atoms, masks, captions, t"):
        with_needed(graph, ["mask"])


def test_a_folder_without_stages_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc"):
        read_graph(tmp_path)


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_imports(name: str) -> None:
    declared = set[Path]().union(*(files_under(dep) for dep in STAGES[name]["deps"] if dep.startswith(CODE)))
    needed = needed_files(Path("stages") / f"{name.partition('@')[0]}.py", ROOT)
    missing, surplus = sorted(map(str, needed - declared)), sorted(map(str, declared - needed))
    assert not missing, f"dvc.yaml: add to the deps of {name}: {missing}"
    assert not surplus, f"dvc.yaml: {name} does not use, so take from its deps: {surplus}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_named_like_its_module_and_params(name: str) -> None:
    module, _, item = name.partition("@")
    assert STAGES[name]["cmd"] == f"python -m stages.{module} {item}".rstrip()
    group = PLACES.get(name, module).partition("/")[0]
    assert {params.split(".")[0] for params in STAGES[name]["params"]} >= {group}
    assert group in GROUPS


def test_every_training_is_a_stage() -> None:
    assert tuple(name for name in STAGES if name.startswith("train@")) == tuple(f"train@{name}" for name in TRAININGS)


@pytest.mark.parametrize("name", STAGES)
def test_inputs_are_there_in_a_fresh_clone(name: str) -> None:
    made = {out for stage in STAGES.values() for out in outs(stage, "outs", "metrics", "plots")}
    for dep in set(STAGES[name]["deps"]) - made:
        assert (ROOT / dep).exists(), f"{name} depends on {dep}, which no stage makes and which is not there"


def test_packages_run_no_code_of_their_own() -> None:
    for path in sorted(file for ring in ("pipeline", "stages", "flows") for file in (ROOT / ring).rglob("__init__.py")):
        body = ast.parse(path.read_text()).body
        if path == ROOT / "stages/__init__.py":  # what must be set before any module of a stage imports torch
            assert [ast.unparse(node) for node in body[1:]] == [
                "import os",
                "import sys",
                "from stages.interrupt import last_word",
                "os.environ.setdefault('OMP_NUM_THREADS', '1')",
                "sys.excepthook = last_word",
            ]
            body = body[:1]
        assert all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body), path


def test_outer_rings_import_inner_ones_only() -> None:
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        assert not imported(path) & {"stages", "flows", "prefect", "dvc", "typer"}, path
    for path in sorted((ROOT / "stages").rglob("*.py")):
        assert not imported(path) & {"flows", "prefect", "dvc"}, path


def test_packages_import_one_another_without_a_circle() -> None:
    graph = package_graph()
    for name, needed in sorted(graph.items()):
        print(f"{name}: {', '.join(sorted(needed)) or '-'}")
    TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize(("package", "others"), APART.items())
def test_packages_that_know_nothing_of_one_another(package: str, others: set[str]) -> None:
    assert not package_graph()[package] & others


def test_a_stage_goes_stale_by_what_it_uses_alone() -> None:
    train_lrm, segment = (set(STAGES[name]["deps"]) for name in ("train_lrm", "segment"))
    assert not [dep for dep in train_lrm if dep.startswith("pipeline/diffusion")]
    assert not [dep for dep in segment if dep.startswith("pipeline/evaluation")]
    assert "pipeline/reconstruction/lrm.py" in train_lrm
    assert "pipeline/parts/segmentation.py" in segment


def test_flows_import_no_model_code() -> None:
    allowed = (
        *("flows/", "stages/entry.py", "pipeline/errors.py", "pipeline/params/", "pipeline/project.py"),
        "pipeline/shards/scratch.py",
    )
    for path in sorted((ROOT / "flows").glob("*.py")):
        needed = needed_files(path.relative_to(ROOT), ROOT)
        assert not [str(file) for file in needed if not str(file).startswith(allowed)], path


def imported(path: Path) -> set[str]:
    """Top-level names of all modules imported anywhere in a file."""
    return {name.split(".")[0] for name in imports(path)}


@cache
def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, be it a module or something in one."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def package_graph() -> dict[str, set[str]]:
    """By package, the packages that its modules import: `views` for pipeline/views, and the other rings as a whole."""
    graph: dict[str, set[str]] = {}
    files = [file for ring in RINGS for file in sorted((ROOT / ring).rglob("*.py")) if file.name != "__init__.py"]
    for path in files:
        owner = package(".".join(path.relative_to(ROOT).with_suffix("").parts))
        needed = {package(name) for name in imports(path) if name.split(".")[0] in RINGS}
        graph[owner] = graph.get(owner, set()) | needed - {owner}
    return graph


def package(name: str) -> str:
    """The package of a module; modules that lie beside the packages count as one each."""
    ring, inner, *_ = [*name.split("."), ""]
    return inner if ring == "pipeline" else ring
