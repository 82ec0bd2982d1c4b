"""Jobs: what is to be computed, one after another; remembered over restarts."""

import json
import secrets
import sqlite3
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.app.refusals import Refusal
from pipeline.app.settings import JOBS_KEPT, MOST_QUEUED

State = Literal["queued", "running", "done", "failed", "cancelled"]
STOPPED = "The server was stopped while this was being made; start it again."
LEAST_LEFT_S = 1.0


@dataclass
class Job:
    """One job."""

    id: str
    request: dict[str, Any]
    title: str
    state: State
    created: float
    started: float | None = None
    ended: float | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Those that have ended: `name` and `seconds`."""
    error: str | None = None
    object: str | None = None
    version: int | None = None
    step: str | None = None
    """The one that it is at, since `step_started`, with `done` of `total` items."""
    step_started: float = 0.0
    done: int = 0
    total: int = 0
    typical: list[dict[str, Any]] = field(default_factory=list)
    """The steps of the last job like it, once it runs."""

    @property
    def command(self) -> str:
        """Such as `decompose`."""
        return str(self.request["command"])

    @property
    def is_over(self) -> bool:
        """Whether nothing of it will change any more."""
        return self.state not in ("queued", "running")

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        if self.started is None:
            return 0.0
        return (time.time() if self.ended is None else self.ended) - self.started

    @property
    def likeness(self) -> tuple[Any, ...]:
        """What jobs that take about the same steps have in common."""
        options = self.request.get("options", {})
        return (self.command, options.get("surface"), options.get("close"), options.get("place") is None)

    def tell(self, event: dict[str, Any]) -> None:
        """A step of it begins, goes on or has ended."""
        if event["seconds"] is not None:
            self.steps.append({"name": event["what"], "seconds": round(event["seconds"], 2)})
            self.step, self.done, self.total = None, 0, 0
            return
        if event["what"] != self.step:
            self.step, self.step_started = event["what"], time.time()
        self.done, self.total = event["done"], event["total"]


class Jobs:
    """All jobs of a server."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self.jobs: dict[str, Job] = {}
        self.keys: dict[str, str] = {}
        for row in database.execute("select * from jobs order by created, rowid"):
            job = Job(
                row["id"], json.loads(row["request"]), row["title"], row["state"], row["created"], row["started"],
                row["ended"], json.loads(row["steps"]), row["error"], row["object"], row["version"],
            )  # fmt: skip
            self.jobs[job.id] = job
            if row["key"] is not None:
                self.keys[row["key"]] = job.id
            if job.state == "running":
                self.end(job, "failed", STOPPED)

    @property
    def queue(self) -> list[Job]:
        """What waits, the next first: animations come last."""
        waiting = [job for job in self.jobs.values() if job.state == "queued"]
        return sorted(waiting, key=lambda job: (job.command == "animate", job.created))

    def get(self, job_id: str) -> Job:
        """Refusal (404) when there is none."""
        if job_id not in self.jobs:
            raise Refusal(404, "There is no such job.")
        return self.jobs[job_id]

    def busy(self, object_id: str) -> Job | None:
        """The job that is about to change an object."""
        for job in self.jobs.values():
            if not job.is_over and job.request.get("object") == object_id and job.command != "animate":
                return job
        return None

    def add(self, request: dict[str, Any], title: str, key: str | None) -> Job:
        """A job at the end of the queue; Refusal (429) when that is full."""
        if len(self.queue) >= MOST_QUEUED:
            raise Refusal(429, f"{MOST_QUEUED} jobs are waiting, which is the most; wait until one is done.")
        job = Job(secrets.token_hex(16), request, title, "queued", time.time())
        self.database.execute(
            "insert into jobs(id, key, request, title, state, created, steps) values(?, ?, ?, ?, ?, ?, '[]')",
            (job.id, key, json.dumps(request), title, job.state, job.created),
        )
        self.jobs[job.id] = job
        if key is not None:
            self.keys[key] = job.id
        self._forget()
        return job

    def begin(self, job: Job) -> None:
        """It is being computed."""
        like = [one for one in self.jobs.values() if one.state == "done" and one.likeness == job.likeness]
        job.typical = max(like, key=lambda one: one.ended or 0.0).steps if like else []
        job.state, job.started = "running", time.time()
        self.database.execute("update jobs set state = ?, started = ? where id = ?", (job.state, job.started, job.id))

    def end(self, job: Job, state: State, error: str | None = None) -> None:
        """It is over."""
        job.state, job.ended, job.error, job.step = state, time.time(), error, None
        values = (state, job.ended, error, json.dumps(job.steps), job.object, job.version, job.id)
        self.database.execute(
            "update jobs set state = ?, ended = ?, error = ?, steps = ?, object = ?, version = ? where id = ?", values
        )

    def position(self, job: Job) -> int | None:
        """How many jobs come before one that waits."""
        return self.queue.index(job) if job.state == "queued" else None

    def left(self, job: Job) -> float | None:
        """Seconds that a running job still takes, as the last one like it did; None when there was none."""
        if job.state != "running" or not job.typical:
            return None
        typical = job.typical
        at = len(job.steps)
        now = typical[at]["seconds"] if at < len(typical) else 0.0
        spent = time.time() - job.step_started if job.step is not None else 0.0
        if job.total and job.done:
            now = spent * job.total / job.done
        return max(LEAST_LEFT_S, now - spent) + sum(step["seconds"] for step in typical[at + 1 :])

    def _forget(self) -> None:
        over = [job for job in self.jobs.values() if job.is_over]
        for job in sorted(over, key=lambda one: one.created)[: max(0, len(over) - JOBS_KEPT)]:
            del self.jobs[job.id]
            self.keys = {key: job_id for key, job_id in self.keys.items() if job_id != job.id}
            self.database.execute("delete from jobs where id = ?", (job.id,))
