"""Takes jobs out of the queue, one at a time, and has them computed."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from pipeline.app.jobs import Job, Jobs
from pipeline.app.objects import Objects
from pipeline.app.process import ProcessDied, TaskFailed, WorkerProcess
from pipeline.app.refusals import Refusal, as_refusal
from pipeline.app.settings import AppSettings
from pipeline.app.uploads import MASK, PICTURE, Uploads
from pipeline.folders import file_name


class Runner:
    """The only one that begins and ends jobs."""

    def __init__(
        self, settings: AppSettings, jobs: Jobs, objects: Objects, uploads: Uploads, worker: WorkerProcess,
        samples: dict[str, Path],
    ) -> None:  # fmt: skip
        self.settings, self.jobs, self.objects, self.uploads = settings, jobs, objects, uploads
        self.worker, self.samples = worker, samples
        self.changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._job: Job | None = None

    def notify(self) -> None:
        """Whoever waits for a change of a job looks again."""
        self.changed.set()
        self.changed = asyncio.Event()

    def wake(self) -> None:
        """There is a new job."""
        self._wanted.set()
        self.notify()

    async def serve(self) -> None:
        """Run jobs until this is cancelled."""
        while True:
            self._wanted.clear()
            queue = self.jobs.queue
            if not queue:
                await self._wanted.wait()
                continue
            job = queue[0]
            try:
                self.jobs.begin(job)
                self.notify()
                self._job, self._task = job, asyncio.create_task(self._run(job))
                await asyncio.wait([self._task])
                if self._task.cancelled():
                    self.jobs.end(job, "cancelled")
                elif (error := self._task.exception()) is not None:
                    self.jobs.end(job, "failed", _sentence(error))
                else:
                    self.jobs.end(job, "done")
            except asyncio.CancelledError:  # the server ends; the job is told so when it is started again
                if self._task is not None:
                    self._task.cancel()
                raise
            except sqlite3.Error:  # a full disk: the job is over all the same
                job.state = "failed" if job.state == "running" else job.state
                await asyncio.sleep(1)
            finally:
                self._job, self._task = None, None
                self.notify()

    def cancel(self, job: Job) -> None:
        """End a job that is not over; its process is killed, and another one started for the next job."""
        if job.state == "queued":
            self.jobs.end(job, "cancelled")
            self.notify()
        elif job is self._job and self._task is not None:
            self._task.cancel()

    async def _run(self, job: Job) -> None:
        def tell(event: dict[str, Any]) -> None:
            job.tell(event)
            self.notify()

        request = job.request
        if job.command == "animate":
            found = self.objects.get(request["object"])
            await self.worker.run("animate", {"result": str(found.version.folder)}, tell)
            job.object, job.version = found.id, found.current
            return
        arguments = self._arguments(job)
        if request.get("object"):
            async with self.objects.lock(request["object"]):
                found = self.objects.get(request["object"])
                if found.current != request["version"]:
                    raise Refusal(409, "The object was changed before this could begin; ask for it again.")
                found, number, out = self.objects.next_folder(found)
                base = str(found.version.folder)
                await self.worker.run("make", {**arguments, "result": base, "out": str(out)}, tell)
                made = self.objects.add(found, number, job.command, found.current)
        else:
            folder = self.objects.new_folder(self._name(request))
            try:
                out = self.settings.results / folder / "1"
                await self.worker.run("make", {**arguments, "out": str(out)}, tell)
                made = self.objects.create(folder, job.command)
            finally:
                self.objects.release(folder)  # which removes it when nothing is in it
        job.object, job.version = made.id, made.current

    def _arguments(self, job: Job) -> dict[str, Any]:
        request = job.request
        found: dict[str, Any] = {"command": job.command, "options": request["options"]}
        if request.get("upload"):
            upload = self.uploads.get(request["upload"])
            path = self.uploads.path(upload)
            found |= {"source": str(path), "kind": upload.kind}
            folder = self.uploads.folder / upload.id
            if (folder / MASK).is_file() and (folder / PICTURE).is_file():
                found["mask"] = str(folder / MASK)
        elif request.get("sample"):
            found |= {"source": str(self.samples[request["sample"]]), "kind": "object"}
        found |= {key: request[key] for key in ("prompt", "part", "points") if request.get(key)}
        return found

    def _name(self, request: dict[str, Any]) -> str:
        if request.get("upload"):
            return file_name(Path(self.uploads.get(request["upload"]).name).stem)
        return file_name(request.get("sample") or request.get("prompt") or "object")


def _sentence(error: BaseException) -> str:
    if isinstance(error, TaskFailed):
        return error.sentence
    if isinstance(error, ProcessDied):
        return f"The process that was making this ended in the middle of it ({error}); start it again."
    return as_refusal(error).sentence if isinstance(error, Exception) else str(error)
