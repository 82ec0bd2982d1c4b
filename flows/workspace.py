"""Where a run happens: the project's own folder, or, when it has other params, a copy of the project.

The copy shares what is expensive with the project: DVC's cache and run-cache, and the store of finished objects. So a
stage whose inputs are unchanged comes out of the cache, and the project's files stay as they are.
"""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from dvc.config import Config
from dvc.repo import Repo

from pipeline.errors import UserError
from pipeline.params.all import check_params
from pipeline.params.base import PARAMS_FILE, read_yaml, with_overrides
from pipeline.shards.scratch import scratch


def find_project() -> Path:
    """The project's root: the current folder. UserError when it is none."""
    root = Path.cwd()
    if not (root / "dvc.yaml").is_file() or not (root / ".dvc").is_dir():
        raise UserError(f"{root} is no PartGen project (it has no dvc.yaml and .dvc); start in the project's folder.")
    return root


def workspace(root: Path, name: str, overrides: Sequence[str] = (), preset: Path | None = None) -> Path:
    """The folder for a run: `root` itself without overrides, else `.partgen/runs/NAME`, made when it is not there.

    `overrides` are `group.key=value`, of params.yaml or of the file `preset`, which also takes a copy; UserError when
    one does not fit it.
    """
    if not overrides and preset is None:
        return root
    source = preset or root / PARAMS_FILE
    check_params(overrides, source)
    params = with_overrides(read_yaml(source), overrides)
    folder = root / scratch() / "runs" / name
    if folder.exists():  # the same run, tried again: what it has finished counts
        return folder
    partial = folder.with_name(f".{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for relative in sorted(_project_files(root)):
        target = partial / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / relative, target)
    (partial / PARAMS_FILE).write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True), encoding="utf-8")
    with Repo(str(root)) as project:
        for path in _ignored_inputs(project):
            target = partial / path.relative_to(root)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(path)
        _share_cache(project, partial, folder)
    partial.rename(folder)
    return folder


def _project_files(root: Path) -> Iterator[Path]:
    """What Git tracks or would track, relative to `root`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if listing.returncode != 0:
        reason = " ".join(listing.stderr.split())
        raise UserError(f"A run with overrides copies the project by Git, which says: {reason}")
    for name in listing.stdout.split("\0"):
        if name and (root / name).is_file():  # a deleted file is still listed
            yield Path(name)


def _ignored_inputs(project: Repo) -> Iterator[Path]:
    """The files of inputs that no stage makes, as DVC sees them: Git may ignore some, such as downloads."""
    made = {out.fs_path for out in project.index.outs}
    inputs = {dep.fs_path for dep in project.index.deps if dep.fs_path and dep.fs_path not in made and dep.exists}
    for path in sorted(inputs):
        found = project.dvcignore.find(project.fs, path) if project.fs.isdir(path) else [path]
        yield from (Path(name) for name in found)


def _share_cache(project: Repo, copy: Path, folder: Path) -> None:
    """Point the DVC of `copy`, which will be `folder`, at the project's cache; its other state goes with the folder."""
    local = Path(project.root_dir) / ".dvc" / "config.local"
    if local.exists():
        shutil.copy2(local, copy / ".dvc")  # a remote's credentials, among others
    with Config(str(copy / ".dvc")).edit("local") as config:
        config["core"] |= {"no_scm": True, "site_cache_dir": str(folder / ".dvc" / "tmp" / "site")}
        config["cache"]["dir"] = str(project.cache.legacy.path)  # holds the run-cache too
