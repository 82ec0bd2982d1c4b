"""The client of the Blender worker program: one long-lived Blender process, replaced when it is worn out or dead."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.shards.table import decode_png

PROGRAM = Path(__file__).parent / "blender_worker.py"


class BlenderDied(Exception):
    """The Blender process ended in the middle of a job; the message says how, with its last words."""


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
    """

    def __init__(self, threads: int) -> None:
        self.jobs = 0
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), f"--threads={threads}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )
        hello = self._read()
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
        with tempfile.TemporaryDirectory(prefix="partgen-render-") as folder:
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
        self._stderr.close()

    def _write(self, job: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BlenderDied(self._last_words()) from None

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise BlenderDied(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        status = self._process.wait()
        end = self._stderr.seek(0, 2)
        self._stderr.seek(max(0, end - 2000))
        words = self._stderr.read().decode(errors="replace").split()
        self._stderr.close()
        return f"Blender ended with status {status}: {' '.join(words)[-300:]}"


def _read_picture(path: str) -> np.ndarray:
    return decode_png(Path(path).read_bytes())
