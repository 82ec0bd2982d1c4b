"""All trainings and what they need, one stage after the other: `partgen train-all` starts, watches and ends them.

The process that trains holds a lock, in which its number stands, and keeps a record of where it is and one log. It runs
at the lowest priority. Killed, it leaves nothing running; started again, it keeps what is finished, by DVC, and the
training under way goes on from its checkpoint.
"""

from stages.entry import one_sentence_errors  # isort: skip  # first, so that Ctrl-C is told from here on

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

import psutil

from flows.processes import GRACE_S, Processes
from flows.repro import Reader, environment, repro
from flows.training_status import describe
from pipeline.errors import UserError
from pipeline.params.all import check_params
from pipeline.project import find_preset
from pipeline.shards.scratch import scratch

LOWEST_PRIORITY = 19
LOOK_EVERY_S = 0.1


@dataclass
class Record:
    """Where the trainings are; it outlives the process that writes it."""

    folder: str
    """Of the project, or of the copy, in which the stages run."""
    stages: list[str]
    done: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Whether a stage was made, restored or unchanged, and the seconds that it took."""
    current: str = ""
    error: str = ""


class Place:
    """The files of `train-all` in the project's scratch folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        folder = root / scratch() / "train-all"
        self.log, self.lock, self.record = (folder / name for name in ("log", "lock", "record.json"))

    def holder(self) -> int | None:
        """The process that trains; None when none does."""
        try:
            with self.lock.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            return int(self.lock.read_text() or 0)
        return None

    @contextmanager
    def held(self) -> Iterator[None]:
        """This process is the one that trains, inside. UserError when another one is."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(running(self.holder())) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def read(self) -> Record | None:
        """What was recorded last; None when nothing was started yet."""
        try:
            return Record(**json.loads(self.record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, record: Record) -> None:
        """Put a record in the place of the one before."""
        partial = self.record.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(record)), encoding="utf-8")
        partial.replace(self.record)


def running(pid: int | None) -> str:
    """What is said to the one who starts a second time."""
    return f"The trainings are running already (process {pid}); see `partgen train-all --status`, or end them (--stop)."


def start(preset: str | None, background: bool) -> None:
    """Train, here or in a process of its own that this one does not wait for, and say where the results will be.

    With a `preset` in a copy of the project. UserError when trainings run already, a stage fails, or no preset is so
    called.
    """
    from flows.workspace import find_project

    place = Place(find_project())
    if pid := place.holder():
        raise UserError(running(pid))
    check_params(path=find_preset(preset) if preset else place.root / "params.yaml")
    names = trainings(place.root)
    folder = place.root / scratch() / "runs" / f"train-all-{preset}" if preset else place.root
    if folder.exists() and preset:
        print(f"Going on in the copy of the project that was made before; remove {folder} to begin anew.")
    print(f"Stages: {', '.join(names)}.\nResults: data/models, metrics/train and plots/train in {folder}.")
    print(f"Log: {place.log}", flush=True)
    if not background:
        work(preset)
        return
    place.log.parent.mkdir(parents=True, exist_ok=True)
    with place.log.open("a") as log:
        command = [sys.executable, "-m", "flows.trainings", "work", json.dumps({"preset": preset, "echo": False})]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    while place.holder() != process.pid or place.read() is None:
        if process.poll() is not None:
            last = place.log.read_text(encoding="utf-8", errors="replace").rstrip().rpartition("\n")[-1]
            raise UserError(f"The trainings ended as soon as they began: {last.removeprefix('partgen: ')}")
        time.sleep(LOOK_EVERY_S)
    print(f"Training in the background (process {process.pid}): `partgen train-all --status`, and --stop to end it.")


def work(preset: str | None, echo: bool = True) -> None:
    """Bring every stage up to date in this process; with `echo`, its log is also printed."""
    from flows.workspace import find_project, workspace

    place = Place(find_project())
    with place.held(), place.log.open("a", encoding="utf-8") as log:
        os.nice(LOWEST_PRIORITY)
        place.record.unlink(missing_ok=True)
        folder = workspace(place.root, f"train-all-{preset}", preset=find_preset(preset) if preset else None)
        record = Record(str(folder), trainings(folder))
        processes = Processes(environment(place.root))
        for name in record.stages:
            record.current = name
            place.write(record)
            reader, started = Reader(lambda line: _say(line, log, echo)), time.monotonic()
            reader.say(f"{name} begins")
            status = processes.run(repro(name), folder, reader.read)
            if status != 0:
                record.error = f"{name}: {reader.error or f'exit status {status}; {place.log} says more.'}"
                place.write(record)
                raise UserError(record.error)
            record.done[name] = reader.state, time.monotonic() - started
        record.current = ""
        place.write(record)
        _say(f"All trainings are done: {folder / 'data/models'}", log, echo)


def status() -> None:
    """Print where the trainings are."""
    place = Place(Path.cwd())
    pid, record = place.holder(), place.read()
    if record is None:
        raise UserError("No trainings were started in this project; `partgen train-all` starts them.")
    print(describe(Path(record.folder), record.stages, record.done, record.current, pid is not None, place.log))
    if record.error:
        print(f"It ended: {record.error}")
    print(f"Results: {record.folder}; log: {place.log}")


def stop() -> None:
    """End the trainings that run, and wait until they have ended. UserError when there are none."""
    place = Place(Path.cwd())
    pid = place.holder()
    if not pid:
        raise UserError("No trainings are running in this project; `partgen train-all` starts them.")
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.terminate()
        deadline = time.monotonic() + 12 * GRACE_S  # as long as a guard may take, and some
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise UserError(f"The process {pid} does not end; `kill -9 {pid}` ends it with all that it started.")
            time.sleep(LOOK_EVERY_S)
    record = place.read()
    where = f" during {record.current}" if record and record.current else ""
    print(f"The trainings were ended{where}; the same command goes on from the last checkpoint.")


def trainings(root: Path) -> list[str]:
    """The stages of a project that train, and those that they need, in the order of the graph."""
    from flows.graph import read_graph, with_needed

    graph = read_graph(root)
    wanted = [name for name in graph if name.startswith("train")]
    if not wanted:
        raise UserError(f"{root / 'dvc.yaml'} has no stage that trains.")
    return [stage.name for stage in with_needed(graph, wanted)]


def _say(line: str, log: TextIO, echo: bool) -> None:
    log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
    log.flush()
    if echo:
        print(line, flush=True)


def main() -> None:
    """`start`, `status`, `stop`, which the command line becomes, and `work`, the process in the background."""
    command, values = sys.argv[1:]
    commands: dict[str, Callable[..., None]] = {"start": start, "status": status, "stop": stop, "work": work}
    with one_sentence_errors():
        commands[command](**json.loads(values))


if __name__ == "__main__":
    main()
