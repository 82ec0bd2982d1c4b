"""A process that has everything imported, and runs each job in a fork of itself: trials without the seconds of imports.

A job is a line of JSON on standard input, its answer a line on standard output; `Server` is the other end.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
TOLD = ("out", "err", "outside")
"""Files that a job writes to: what it says, and what it opens elsewhere."""
LINGER_S = 5.0
"""How long processes may outlive the one that started them."""


@dataclass(frozen=True)
class Job:
    """One call of a function of `tests.faults.targets` or `tests.faults.hostile` in a process of its own."""

    call: str
    """`module:expression`; the expression gives a function without arguments."""
    folder: Path
    """Where it runs, its TMPDIR `tmp` and its scratch folder within."""
    environment: dict[str, str] = field(default_factory=dict)
    timeout_s: float = 120.0
    memory_gib: float = 0.0
    """More address space than at its start is refused; 0 for no limit."""
    cpu_s: int = 0
    watched: bool = False
    """Whether connections, programs and files outside the folder are noted in `Ended.outside`."""


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    status: int
    """Exit status, or minus the signal."""
    stdout: str
    stderr: str
    timed_out: bool
    left: list[str]
    """Processes that it started and that were still there after LINGER_S."""
    outside: list[str]

    @property
    def sentence(self) -> str:
        """The one sentence of an error of the user; empty when it ended in any other way."""
        told = [line for line in self.stderr.splitlines() if line.startswith("partgen: ")]
        return told[0] if self.status == 2 and len(told) == 1 and "Traceback (most" not in self.stderr else ""

    @property
    def last_words(self) -> str:
        """What a failed one said last."""
        lines = self.stderr.strip().splitlines() or self.stdout.strip().splitlines()
        return " ".join(lines[-1].split())[:90] if lines else f"status {self.status}"


class Server:
    """The other end: `run` sends a job and waits for its end."""

    def __init__(self, environment: dict[str, str], modules: Sequence[str] = ()) -> None:
        """`modules` are imported before it forks, beside those of this package that need no networks."""
        # A fork has none of its parent's threads, and the telemetry of onnxruntime waits for its own at the end.
        more = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PARTGEN_WORKERS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server", *modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**environment, **more},
        )  # fmt: skip

        about = json.loads(self._answer())
        self.targets: dict[str, tuple[str, ...]] = {name: tuple(outs) for name, outs in about["targets"].items()}
        self.readers: dict[str, str] = about["readers"]
        self.cases: list[str] = about["cases"]

    def run(self, job: Job) -> Ended:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(job), default=str) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the server of the trials ended with status {self._process.wait()}")
        return line

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve() -> dict[str, Any] | None:
    """Answer jobs until there are no more, then None; in a fork, its job."""
    for line in sys.stdin:
        job = json.loads(line)
        told = tempfile.mkdtemp(prefix="job-")
        if (pid := os.fork()) == 0:
            _become(job, told)
            return job
        status, timed_out = _wait(pid, job["timeout_s"])
        left = list(_linger(pid))
        texts = [path.read_text(errors="replace") if (path := Path(told, name)).exists() else "" for name in TOLD]
        shutil.rmtree(told)
        seen = sorted(set(texts[2].splitlines()))
        print(json.dumps(asdict(Ended(status, texts[0], texts[1], timed_out, left, seen))), flush=True)
    return None


def _become(job: dict[str, Any], told: str) -> None:
    os.setsid()
    folder = Path(job["folder"])
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{told}/{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update({"PARTGEN_SCRATCH": ".partgen", "TMPDIR": str(folder / "tmp"), **job["environment"]})
    tempfile.tempdir = None
    if job["memory_gib"]:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = used + int(job["memory_gib"] * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    if job["cpu_s"]:
        resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_s"], job["cpu_s"] + 1))
    if job["watched"]:
        _watch(f"{told}/outside", str(folder.resolve()))
    with contextlib.suppress(AttributeError):  # without the library nothing is to be disturbed
        ctypes.CDLL(None).filefaults_start()


def _watch(log: str, folder: str) -> None:
    """Note connections, programs, and files that are neither in the folder nor of the system and of Python."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    system = ("/proc/", "/sys/", "/usr/", "/lib", "/dev/null", "/dev/urandom", "/etc/mime.types")
    own = (folder, *system, sys.prefix, sys.base_prefix, str(ROOT))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "subprocess.Popen", "os.system", "os.exec"):
            os.write(handle, f"{event} {str(arguments[1])[:80]}\n".encode())
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(own):
                os.write(handle, f"open {path[:80]}\n".encode(errors="replace"))

    sys.addaudithook(hook)


def _wait(pid: int, timeout_s: float) -> tuple[int, bool]:
    deadline = time.monotonic() + timeout_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), False
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), True
        time.sleep(0.005)


def _linger(session: int) -> Iterator[str]:
    """The command lines of what is left in the session of a job after a while; they are ended."""
    deadline = time.monotonic() + LINGER_S
    while (alive := _members(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            yield Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:90]
            os.kill(pid, signal.SIGKILL)


def _members(session: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(path.parent.name))
    return found


def _work(job: dict[str, Any]) -> NoReturn:
    """Ends as a program does, but for the seconds in which the interpreter takes all modules down."""
    from stages.entry import one_sentence_errors

    module, _, expression = job["call"].partition(":")
    status: object = 0
    try:
        with one_sentence_errors():
            eval(expression, vars(sys.modules[module]))()
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def _describe() -> dict[str, Any]:
    """The names of all that can be called, with what the judge needs of them."""
    from tests.faults.hostile_projects import CASES
    from tests.faults.readers import READERS
    from tests.faults.targets import TARGETS

    targets = {name: target.outs for name, target in TARGETS.items()}
    return {"targets": targets, "readers": {name: reader.files for name, reader in READERS.items()}, "cases": [*CASES]}


if __name__ == "__main__":  # a worker process that a job starts imports this file again, and nothing more
    for imported in sys.argv[1:]:
        importlib.import_module(imported)
    print(json.dumps(_describe()), flush=True)
    gc.freeze()  # a fork that collects garbage would copy all pages
    if (task := serve()) is not None:
        _work(task)
