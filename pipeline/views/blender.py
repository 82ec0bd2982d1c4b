"""The client of the Blender worker program: one long-lived Blender process, replaced when it is worn out or dead."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.shards.table import decode_png

PROGRAM = Path(__file__).parent / "blender_worker.py"


class BlenderDied(Exception):
    """The Blender process ended in the middle of a job; the message says how, with its last words."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """`status` is its exit status, negative for a signal; None when this program ended it."""
        super().__init__(message)
        self.status = status


class BlenderRefused(Exception):
    """Blender could not draw the object; it is well and takes the next."""


@dataclass(frozen=True)
class Series:
    """Pictures of the whole object (`part` None), or of one part alone, from camera-to-world poses (V, 4, 4)."""

    part: int | None
    poses: np.ndarray


class Blender:
    """A running Blender worker program, which dies with this process.

    `threads` CPU threads draw; they change the time and not the pictures. Raises BlenderDied when it does not start.
    What killed processes left among the temporary files is removed.
    """

    def __init__(self, threads: int) -> None:
        self.jobs = 0
        _remove_leftovers()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        answers, worker_end = os.pipe()
        self._answers = os.fdopen(answers, encoding="utf-8")
        home = os.path.expanduser("~")
        with _folder() as folder:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAM), f"--threads={threads}", f"--answers={worker_end}"],
                stdin=subprocess.PIPE,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[worker_end],
                # Blender crashes where HOME is not set and the user is in no list of users, as in many containers.
                env={**os.environ, "HOME": folder if home == "~" else home, "TMPDIR": folder},
                text=True,
            )
            os.close(worker_end)
            try:
                hello = self._read()
            except BaseException:
                self.close()
                raise
        self.version, self.device = hello["blender"], hello["device"]

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def draw(self, glb: bytes, series: Sequence[Series], settings: Mapping[str, Any]) -> list[np.ndarray]:
        """Pictures (V, size, size, 4) for each series: uint8, RGBA with straight alpha.

        `glb` has one node a part, numbered by its extras `part`; `settings` are those keys of RenderParams that the
        worker program reads. Raises BlenderRefused, or BlenderDied, after which this instance is of no more use.
        """
        self.jobs += 1
        with _folder() as folder:
            path = Path(folder) / "object.glb"
            path.write_bytes(glb)
            requests = [{"part": one.part, "poses": one.poses.tolist()} for one in series]
            self._write({**settings, "glb": str(path), "out": folder, "series": requests})
            answer = self._read()
            if "error" in answer:
                raise BlenderRefused(answer["error"])
            return [
                np.stack([_read_picture(f"{folder}/{number}_{view}.png") for view in range(len(one.poses))])
                for number, one in enumerate(series)
            ]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._answers.close()
        self._said.close()

    def _write(self, job: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line.endswith("\n"):
            raise self._death()
        try:
            return json.loads(line)
        except ValueError:
            self.close()
            raise BlenderDied(f"Blender was ended, since it answered {line[:300]!r}") from None

    def _death(self) -> BlenderDied:
        status = self._process.wait()
        end = self._said.seek(0, 2)
        self._said.seek(max(0, end - 2000))
        words = self._said.read().decode(errors="replace").split()
        self.close()
        return BlenderDied(f"Blender ended with status {status}: {' '.join(words)[-300:]}", status)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f"{_prefix()}{os.getpid()}-")


def _remove_leftovers() -> None:
    """Remove the folders of processes of this machine that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        pid = folder.name.removeprefix(_prefix()).partition("-")[0]
        if pid.isdecimal() and not _lives(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    """Whether a process still does anything; one that was killed may be listed until its parent takes note."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _prefix() -> str:
    return f"partgen-blender-{re.sub('[^A-Za-z0-9]+', '-', socket.gethostname())}-"


def _read_picture(path: str) -> np.ndarray:
    return decode_png(Path(path).read_bytes())
