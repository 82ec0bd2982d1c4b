"""How fast `partgen app` answers: its page, 200 status requests a second while a job runs, and a dropped file.

    python -m benchmarks.app [--rate 200] [--seconds 10]

Starts a server with a folder of results of its own. Prints the seconds from its start to its first answer; from a file
of up to 10,000 triangles (the sample antiqueChair) that is uploaded to its parts, cold and warm; of a correction; and
of status requests at a steady rate over loopback, from another process, while jobs run without a pause, the median and
the 99th percentile. Each with its goal, and the share of it.
"""

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from partgen import Client

SAMPLE = Path("data/samples/antiqueChair.glb")
PAGE_GOAL_S, WARM_GOAL_S, CHANGE_GOAL_S, P99_GOAL_S = 3.0, 6.0, 0.3, 0.25
REPEATS, CONNECTIONS = 5, 32


def line(what: str, seconds: float, goal: float | None = None) -> bool:
    """Print a figure; whether the goal is met."""
    share = "" if goal is None else f", {seconds / goal:.2f} of the goal of {goal:g} s"
    print(f"{what}: {seconds:.3f} s{share}", flush=True)
    return goal is None or seconds <= goal


async def asked(url: str, job: str, rate: float, seconds: float) -> list[float]:
    """Seconds of every status request, from when it was due; a library for HTTP would take longer than the server."""
    host, _, port = url.removeprefix("http://").rstrip("/").partition(":")
    request = f"GET /api/v1/jobs/{job} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    took, began = [], time.monotonic() + 0.1

    async def connection(first: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for number in range(first, int(rate * seconds), CONNECTIONS):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = re.search(rb"content-length: (\d+)", head)
            assert length
            await reader.readexactly(int(length[1]))
            took.append(time.monotonic() - due)
        writer.close()

    await asyncio.gather(*map(connection, range(CONNECTIONS)))
    return took


def measure(url: str, began: float, rate: float, seconds: float) -> bool:
    """Print all figures; whether all goals are met."""
    httpx.get(f"{url}api/v1/about").raise_for_status()
    met = [line("start to first answer", time.monotonic() - began, PAGE_GOAL_S)]
    with Client(url) as client:
        for number in range(1 + REPEATS):
            started = time.monotonic()
            made = client.decompose(SAMPLE)
            if number == 0:
                line("file to parts, cold", time.monotonic() - started)
        met.append(line("file to parts, warm", time.monotonic() - started, WARM_GOAL_S))
        changes = []
        for number in range(2 * REPEATS):
            started = time.monotonic()
            made = client.regroup(made, 3 + number % 3)
            changes.append(time.monotonic() - started)
        met.append(line("regroup, median", statistics.median(changes), CHANGE_GOAL_S))
        jobs = [client.submit("decompose", sample="antiqueChair") for _ in range(60)]
        took = sorted(asyncio.run(asked(url, jobs[0]["id"], rate, seconds)))
        done = sum(client.job(job)["state"] == "done" for job in jobs)
        print(f"{len(took)} status requests at {rate:g} a second while {done} jobs were done")
        line("median", statistics.median(took))
        met.append(line("99th percentile", took[int(0.99 * len(took))], P99_GOAL_S))
    return all(met)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "stages.cli", "app", "--port", "0", "--no-browser", "--results", folder]
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            try:
                assert server.stdout is not None
                found = re.search(r"http://\S+", server.stdout.readline())
                assert found
                met = measure(found[0], began, given.rate, given.seconds)
            finally:
                server.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(20)
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
