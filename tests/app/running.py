"""A real server of `partgen app`, as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import psutil

from partgen import Client
from tests.smollm2 import link_model

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "data/samples"
START_S = 60.0


class Server:
    """`partgen app` on a free port while in a `with`; its first line is the address."""

    def __init__(self, results: Path, scratch: Path, *options: str) -> None:
        command = [sys.executable, "-m", "stages.cli", "app", "--port", "0", "--no-browser", "--results", str(results)]
        environment = {**os.environ, "PARTGEN_SCRATCH": str(link_model(scratch)), "PYTHONPATH": str(ROOT)}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--models", str(ROOT / "weights/nano"), *options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line
        self.url = found[0]

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(signal.SIGTERM)

    def client(self) -> Client:
        """One that speaks to it."""
        return Client(self.url)

    def children(self) -> list[psutil.Process]:
        """All processes that it has started, at any depth."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, how: signal.Signals) -> None:
        """Send it a signal, and wait until it and all that it has started are gone; an error when they stay."""
        if self.process.poll() is not None:
            return
        started = self.children()
        self.process.send_signal(how)
        self.process.wait(20)
        _, left = psutil.wait_procs(started, timeout=10)
        assert not left, f"{left} outlive the server"
