"""Faults at the n-th file operation of a process, by the library filefaults.c that is loaded before all others."""

import functools
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("filefaults.c")
KINDS = ("kill", "tear", "space", "io", "readonly")
"""SIGKILL before the n-th operation, or in the middle of the n-th write; no space from the n-th on, an I/O error at the
n-th alone, a read-only disk from the n-th on."""


@dataclass(frozen=True)
class Fault:
    """What happens at the `at`-th file operation (from 1; 0: nothing, they are counted)."""

    kind: str = "count"
    at: int = 0
    children: bool = False
    """Operations of all processes that it starts count, too."""

    def environment(self, log: Path, *folders: Path) -> dict[str, str]:
        """What a process needs to be disturbed at what it does below `folders`; `log` is given its operations."""
        values = {
            "FILEFAULTS_KIND": self.kind,
            "FILEFAULTS_AT": str(self.at),
            "FILEFAULTS_LOG": str(log),
            "FILEFAULTS_FOLDERS": ":".join(map(str, folders)),
        }
        return values | ({"FILEFAULTS_CHILDREN": "1"} if self.children else {})


def operations(log: Path) -> list[str]:
    """What was counted: `open PATH`, `write PATH`, `rename PATH`, ..., the first operation first."""
    lines = log.read_text(errors="surrogateescape").splitlines() if log.exists() else []
    return [line.split(" ", 1)[1] for line in lines]


@functools.cache
def library() -> Path | None:
    """The library, compiled at its first use; None where there is no C compiler, or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/proc/self/fd").exists():
        return None
    out = Path(tempfile.mkdtemp(prefix="filefaults-")) / "filefaults.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(out), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"filefaults.c does not compile: {done.stderr}")
    return out


def preloaded() -> dict[str, str]:
    """The environment of a program that the library is loaded into."""
    return {**os.environ, "LD_PRELOAD": str(library())} if library() else dict(os.environ)
