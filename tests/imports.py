"""Which of the project's own files a module needs to run, found without running it."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("pipeline", "stages", "flows")


def needed_files(module: Path, root: Path) -> set[Path]:
    """First-party files that `module` imports, at any depth and in any function, and those it names in a string.

    A program that is run rather than imported, or a data file, is named by its path relative to the module's folder.
    `__init__.py` files are left out: they hold a docstring and nothing else (tested). Paths are relative to `root`.
    """
    found: set[Path] = set()
    pending = [module]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".py":
            pending += [target for target in _references(root / path, root) if target.name != "__init__.py"]
    return found


def _references(path: Path, root: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module(alias.name, root)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not followed"
            yield from _module(node.module or "", root)
            for alias in node.names:
                yield from _module(f"{node.module}.{alias.name}", root)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _named(node.value, path, root)


def _module(name: str, root: Path) -> Iterator[Path]:
    parts = name.split(".")
    if parts[0] in PACKAGES:
        for file in (Path(*parts).with_suffix(".py"), Path(*parts) / "__init__.py"):
            if (root / file).is_file():
                yield file


def _named(text: str, path: Path, root: Path) -> Iterator[Path]:
    """The files beside a module that a string in it names: one file, or all of a folder such as `shaders`."""
    target = path.parent / text if text and len(text) < 100 and "\n" not in text else path
    if "." in text and target.is_file() and target != path:
        yield target.resolve().relative_to(root)
    elif text.isidentifier() and target.is_dir():
        yield from (file.relative_to(root) for file in sorted(target.rglob("*")) if file.is_file())
