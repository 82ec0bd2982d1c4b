"""All that one running server holds."""

import asyncio
import contextlib
import csv
import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.app.database import open_database
from pipeline.app.documents import Documents
from pipeline.app.jobs import Jobs
from pipeline.app.objects import Object, Objects
from pipeline.app.process import ProcessDied, TaskFailed, WorkerProcess
from pipeline.app.refusals import Refusal
from pipeline.app.runner import Runner
from pipeline.app.settings import AppSettings
from pipeline.app.uploads import Uploads
from pipeline.errors import UserError
from pipeline.project import SHIPPED

SAMPLES = Path("data/samples")


@dataclass(frozen=True)
class Sample:
    """An object that comes with this program."""

    name: str
    title: str
    author: str
    licence: str
    path: Path


@dataclass
class State:
    """The parts of a server; made by `begin`."""

    settings: AppSettings
    samples: dict[str, Sample]
    objects: Objects
    jobs: Jobs
    uploads: Uploads
    documents: Documents
    worker: WorkerProcess
    """For jobs."""
    quick: WorkerProcess
    """For what is answered at once."""
    runner: Runner
    lock: int
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server ends: streams of events end then."""
    _making: dict[Path, asyncio.Lock] = field(default_factory=dict)

    async def compute(self, task: str, arguments: dict[str, Any]) -> Any:
        """What the quick process gives; Refusal when it fails."""
        try:
            return await self.quick.run(task, arguments)
        except TaskFailed as error:
            raise Refusal(error.status, error.sentence) from None
        except ProcessDied as error:
            raise Refusal(503, f"The process that was doing this ended ({error}); try again.") from None

    async def made_once(self, path: Path, task: str, arguments: dict[str, Any]) -> Path:
        """A file that the quick process makes at its first request."""
        async with self._making.setdefault(path, asyncio.Lock()):
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                await self.compute(task, {**arguments, "out": str(path)})
        return path

    def document(self, found: Object) -> dict[str, Any]:
        """An object as clients see it."""
        busy = self.jobs.busy(found.id)
        return self.documents.object(found, None if busy is None else busy.id)

    def check_free(self, found: Object, version: int | None) -> None:
        """Refusal (409) when another version is shown than the client sees, or the object is about to be changed."""
        if version is not None and version != found.current:
            raise Refusal(
                409, f"The object was changed meanwhile: this is version {found.current} now.", version=found.current
            )
        busy = self.jobs.busy(found.id)
        if busy is not None:
            raise Refusal(
                409,
                f"The object is being changed ({busy.command}); wait for that, or cancel it.",
                version=found.current,
            )

    def close(self) -> None:
        """The folder of results is free for another server."""
        self.objects.database.close()
        os.close(self.lock)


def begin(settings: AppSettings) -> State:
    """Open the folder of results; UserError when another server works in it, or nothing can be written there."""
    settings.state.mkdir(parents=True, exist_ok=True)
    lock = os.open(settings.state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UserError(
            f"Another `partgen app` works in {settings.results}; end it, or name another folder with --results."
        ) from None
    database = open_database(settings.state / "app.sqlite")
    samples = find_samples()
    objects, jobs, uploads = Objects(settings.results, database), Jobs(database), Uploads(settings.state / "uploads")
    worker, quick = (WorkerProcess([str(settings.models), str(os.getpid()), name]) for name in ("jobs", "quick"))
    runner = Runner(settings, jobs, objects, uploads, worker, {name: one.path for name, one in samples.items()})
    uploads.remove_old({job.request.get("upload") or "" for job in jobs.queue})
    return State(settings, samples, objects, jobs, uploads, Documents(), worker, quick, runner, lock)


def find_samples() -> dict[str, Sample]:
    """The samples that come with this program by name; none where its copy lacks them."""
    table = SHIPPED / SAMPLES / "samples.csv"
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = {}
    for row in rows:
        path = table.parent / row["file"]
        if path.is_file():
            found[path.stem] = Sample(path.stem, row["name"], row["author"], row["licence"], path)
    return found


async def lived(state: State) -> None:
    """Serve the queue; both processes are started, so that they have loaded their libraries when work comes."""
    await asyncio.gather(state.worker.start(), state.quick.start())
    warm = [asyncio.create_task(_warm(one)) for one in (state.quick, state.worker)]
    try:
        await state.runner.serve()
    finally:
        for task in warm:
            task.cancel()


async def _warm(worker: WorkerProcess) -> None:
    with contextlib.suppress(TaskFailed, ProcessDied):
        await worker.run("warm", {})
