"""README and docs against the repository: names of code, files and parameters, links, versions, the README's length."""

import ast
import importlib
import json
import re
from functools import reduce
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
NAME = re.compile(r"`(pipeline(?:\.\w+)+):(\w+(?:\.\w+)*)`")
"""Code as documents name it: `package.module:name`, or `package.module:Class.method`."""
MODULE = re.compile(r"`(pipeline(?:\.\w+)+)`")
FILE = re.compile(r"`((?:pipeline|stages|flows|tests|benchmarks|examples)/[\w./]+\.(?:py|c))`")
PARAMETER = re.compile(r"`(\w+(?:\.\w+)+)(?: ?[=:][^`]*)?`")
SUFFIXED = re.compile(r"[a-z][a-z0-9_]*_([A-Z0-9]*[A-Z][A-Z0-9]*)")
"""A tensor or array named with its dimensions."""
LEGEND = re.compile(r"Shape suffixes(?: as in `([\w.]+)`)?(.*)", re.DOTALL)
TERMS = {
    "score s": "Pool.of_runs",
    "NMS": "Pool.kept",
    "AP": "average_precision",
    "recall at K": "recall",
    "composition of N parts": "composite",
    "zero SNR": "training_schedule",
    "spatial concatenation": "predict",
    "red annulus": "prompt_picture",
    **{f"baseline {number} of A.2": "" for number in (1, 2, 3, 4)},
}
"""What a reader of the paper alone looks for, and the function that has it."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = ("http://", "https://", "mailto:", "#")
MOST_LINES = 150


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_code_that_is_named_exists(page: Path) -> None:
    missing = []
    for module, name in sorted(set(NAME.findall(page.read_text(encoding="utf-8")))):
        try:
            reduce(getattr, name.split("."), importlib.import_module(module))
        except (ImportError, AttributeError) as error:
            missing.append(f"{module}:{name} ({error})")
    assert not missing


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "CHANGELOG"], ids=relative)
def test_modules_that_are_named_exist(page: Path) -> None:
    files = {name: ROOT / name.replace(".", "/") for name in MODULE.findall(page.read_text(encoding="utf-8"))}
    assert not [name for name, path in sorted(files.items()) if not (path.with_suffix(".py").exists() or path.is_dir())]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_that_are_named_exist(page: Path) -> None:
    named = set(FILE.findall(page.read_text(encoding="utf-8")))
    assert not [name for name in sorted(named) if "NAME" not in name and not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_parameters_that_are_named_exist(page: Path) -> None:
    """TASK and the like, in capitals, stand for any key."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    missing = []
    for name in sorted(set(PARAMETER.findall(page.read_text(encoding="utf-8")))):
        group, *keys = name.split(".")
        if group not in params:
            continue
        found = [params[group]]
        for key in keys:
            values = [value for value in found if isinstance(value, dict)]
            found = [one for value in values for known, one in value.items() if key.isupper() or known == key]
        if not found:
            missing.append(name)
    assert not missing


def test_deviations_from_the_paper_stand_in_the_presets() -> None:
    text = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
    table = text.partition("## Deviations by preset")[2].partition("\n## ")[0]
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    names = [cell.strip("`") for cell in head[1:-1]]
    assert set(names) == {path.stem for path in (ROOT / "presets").glob("*.yaml")}
    assert len(rows) > 25
    for column, name in enumerate(names, start=1):
        preset = yaml.safe_load((ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8"))
        for row in rows:
            value = reduce(lambda group, key: group[key], row[0].strip("`").split("."), preset)
            assert json.loads(row[column].strip("`")) == value, f"{row[0]} in {name}"


def test_the_index_of_the_paper_names_code() -> None:
    assert len(set(NAME.findall((ROOT / "docs/paper.md").read_text(encoding="utf-8")))) > 50


@pytest.mark.parametrize("term", TERMS)
def test_a_term_of_the_paper_leads_to_its_function_in_one_step(term: str) -> None:
    page = (ROOT / "docs/paper.md").read_text(encoding="utf-8")
    table = page.partition("## In one step")[2].partition("\n## ")[0]
    (row,) = (line for line in table.splitlines() if re.search(rf"\b{re.escape(term)}\b", line.split(" | ")[0]))
    names = [name for _, name in NAME.findall(row)]
    assert names
    assert TERMS[term] in ("", *names)


def legend(path: Path) -> str | None:
    """What a module says of its shape suffixes, with what it refers to; None where it says nothing."""
    found = LEGEND.search(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    if found is None:
        return None
    there = legend(ROOT / f"{found[1].replace('.', '/')}.py") if found[1] else None
    return found[2] + (there or "")


def test_shape_suffixes_have_a_legend() -> None:
    unsaid = {}
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = [node.id for node in nodes if isinstance(node, ast.Name)]
        names += [node.arg for node in nodes if isinstance(node, ast.arg)]
        suffixes = "".join(found[1] for name in names if (found := SUFFIXED.fullmatch(name)))
        said = legend(path) or ""
        missing = sorted({letter for letter in suffixes if letter.isalpha() and not re.search(rf"\b{letter}\b", said)})
        if missing:
            unsaid[relative(path)] = missing
    assert not unsaid


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    targets = {target for target in LINK.findall(page.read_text(encoding="utf-8")) if not target.startswith(ELSEWHERE)}
    assert not [target for target in sorted(targets) if not (page.parent / target.partition("#")[0]).exists()]


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    assert {relative(page) for page in DOCS} <= linked


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_ruff_is_the_same_before_commits() -> None:
    locked = re.search(r"^ruff==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    hook = re.search(r"^ +rev: v(\S+)$", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked
    assert hook
    assert locked[1] == hook[1]
