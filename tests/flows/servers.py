"""Prefect's servers in tests: what starts one, where it answers, and what runs because of a test."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.toy_project import ROOT


def environment(folder: Path) -> dict[str, str]:
    """Of a user with a Prefect of their own, without any server."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**own, "PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": str(ROOT)}


def listening(process: subprocess.Popen[Any], seconds: float = 100) -> str:
    """The API of the Prefect server that a process starts, once it answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
            try:
                ports = [c.laddr.port for c in one.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            except psutil.Error:  # it ended meanwhile
                continue
            for port in ports:
                url = f"http://127.0.0.1:{port}/api"
                try:
                    if httpx.get(f"{url}/health").json() is True:
                        return url
                except (httpx.HTTPError, ValueError):
                    continue
        assert process.poll() is None, "it ended"
        time.sleep(0.2)
    raise AssertionError("waited in vain")


def marked(mark: str) -> dict[int, str]:
    """The living processes whose environment carries the mark, by pid, and what they run."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get("PARTGEN_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())
        except psutil.Error:  # it ended meanwhile, or is someone else's
            continue
    return found


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
