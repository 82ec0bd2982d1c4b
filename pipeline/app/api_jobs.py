"""The part of the API that has jobs."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response, StreamingResponse

from pipeline.app.documents import JobDocument, job_document
from pipeline.app.refusals import Refusal
from pipeline.app.requests import ON_OBJECTS, OPTIONS, JobRequest
from pipeline.app.state import State

EVENT_EVERY_S = 1.0
CANCELLED_S = 5.0


def add_jobs(api: APIRouter, state: State) -> None:
    """The queue, how far jobs are, and their end."""
    jobs, runner = state.jobs, state.runner

    @api.post("/jobs", status_code=202, response_model=JobDocument)
    async def submit(body: JobRequest) -> Any:
        """Put a job into the queue."""
        if body.key is not None and body.key in jobs.keys:
            return job_document(jobs.get(jobs.keys[body.key]), jobs)
        wanted, title = _checked(body, state)
        job = jobs.add(wanted, title, body.key)
        runner.wake()
        return job_document(job, jobs)

    @api.get("/jobs", response_model=list[JobDocument])
    async def all_jobs() -> Any:
        """All that are remembered, the newest first."""
        newest = sorted(jobs.jobs.values(), key=lambda job: job.created, reverse=True)
        return [job_document(job, jobs) for job in newest]

    @api.get("/jobs/{job_id}")
    async def one_job(job_id: str) -> Response:
        """How far a job is."""
        return JSONResponse(job_document(jobs.get(job_id), jobs))

    @api.delete("/jobs/{job_id}", response_model=JobDocument)
    async def cancel(job_id: str) -> Any:
        """End a job; nothing of it goes on."""
        job = jobs.get(job_id)
        if not job.is_over:
            runner.cancel(job)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CANCELLED_S):
                    while not job.is_over:
                        await runner.changed.wait()
        return job_document(job, jobs)

    @api.get("/jobs/{job_id}/events")
    async def events(job_id: str) -> Response:
        """The job at each of its changes, as server-sent events; the stream ends with the job."""
        job = jobs.get(job_id)

        async def told() -> AsyncIterator[str]:
            while True:
                changed = runner.changed
                yield f"data: {json.dumps(job_document(job, jobs))}\n\n"
                if job.is_over or state.ending.is_set():
                    return
                ended = asyncio.create_task(state.ending.wait())
                waited = asyncio.create_task(changed.wait())
                await asyncio.wait([ended, waited], timeout=EVENT_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                waited.cancel()

        return StreamingResponse(told(), media_type="text/event-stream", headers={"cache-control": "no-store"})


def _checked(body: JobRequest, state: State) -> tuple[dict[str, Any], str]:
    """What the job is to do, and its title; Refusal for what cannot be."""
    options, command = body.options.given(), body.command
    for name in options:
        if name not in OPTIONS[command]:
            raise Refusal(400, f"{command} has no option {name}; it has {', '.join(OPTIONS[command]) or 'none'}.")
    upload = None if body.upload is None else state.uploads.get(body.upload)
    if body.sample is not None and body.sample not in state.samples:
        raise Refusal(404, "There is no such sample.")
    prompt = " ".join((body.prompt or "").split())
    given = [name for name, value in (("upload", upload), ("sample", body.sample), ("prompt", prompt)) if value]
    takes = {"decompose": ("upload", "sample"), "from-image": ("upload",), "from-text": ("prompt",),
             "edit": ("prompt",), "add": ("upload", "sample", "prompt")}.get(command, ())  # fmt: skip
    if set(given) - set(takes) or (takes and len(given) != 1):
        raise Refusal(400, f"{command} takes {'one of ' if len(takes) > 1 else ''}{', '.join(takes) or 'no source'}.")
    if upload is not None and command != "add" and upload.kind != {"decompose": "object"}.get(command, "picture"):
        raise Refusal(400, f"{upload.name} is no {'3D object' if command == 'decompose' else 'picture'}.")
    wanted: dict[str, Any] = {
        "command": command, "upload": body.upload, "sample": body.sample, "prompt": prompt, "part": body.part,
        "points": [point.values for point in body.points], "options": options, "object": None,
    }  # fmt: skip
    title = prompt or (upload.name if upload else "") or (state.samples[body.sample].title if body.sample else "")
    if (command in ON_OBJECTS) != (body.object is not None):
        raise Refusal(400, f"{command} {'needs' if command in ON_OBJECTS else 'takes no'} object.")
    if body.object is not None:
        found = state.objects.get(body.object)
        values = state.documents.values(found.version)
        if command != "animate":
            state.check_free(found, body.version)
        if command == "edit" and not body.part:
            raise Refusal(400, "edit needs the name or the number of a part.")
        if command == "take-out" and len(body.points) != 1:
            raise Refusal(400, "take-out needs one point.")
        if command == "choose" and "use" not in options:
            raise Refusal(400, "choose needs the option use, the number of a segmentation that the object keeps.")
        wanted |= {"object": found.id, "version": found.current}
        title = ": ".join(filter(None, (values["name"], prompt or (upload.name if upload else body.sample or ""))))
    return wanted, title[:200] or command
