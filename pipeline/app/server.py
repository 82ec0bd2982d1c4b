"""The server's HTTP API, under /api/v1, and its page.

Every path of a client is looked up among what this program knows, and none is ever opened.
"""

import asyncio
import contextlib
import json
import secrets
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from pipeline.app.documents import (
    ATOMS_GLB,
    PREVIEW,
    Card,
    CutOut,
    JobDocument,
    UploadDocument,
    job_document,
    names_of,
)
from pipeline.app.objects import Object
from pipeline.app.refusals import Refusal, as_refusal
from pipeline.app.requests import (
    ON_OBJECTS,
    OPTIONS,
    Change,
    JobRequest,
    Merge,
    Recolour,
    Regroup,
    Rename,
    Split,
    TakeOut,
)
from pipeline.app.security import Guard
from pipeline.app.settings import API, MOST_QUEUED, MOST_UPLOAD_BYTES, AppSettings
from pipeline.app.sniff import OBJECTS, PICTURES
from pipeline.app.state import State, begin, lived
from pipeline.app.uploads import MASK, PICTURE
from pipeline.project import SHIPPED
from pipeline.views.palette import PART_COLOURS

STATIC = (Path(__file__).parent / "static", SHIPPED / "pipeline/report/static")
"""The page's own files, and three.js, of which there is one copy."""
SHARED = ("three.min.js", "three-LICENSE.txt")
FORMATS_OUT = ("glb", "obj", "stl", "ply", "3mf")
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png", ".gif": "image/gif", ".glb": "model/gltf-binary",
    ".json": "application/json", ".txt": "text/plain; charset=utf-8", ".woff2": "font/woff2", ".ico": "image/x-icon",
}  # fmt: skip
NOTE = "Texts and pictures are drawn by the small models that come with PartGen: a demonstration at 64 px a view."
EVENT_EVERY_S = 1.0
WAIT_FOR_PARTS_S = 0.05
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}


def create_app(settings: AppSettings) -> FastAPI:
    """The application of ASGI; the folder of results is opened at once, the processes start with the server."""
    state = begin(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        serving = asyncio.create_task(lived(state))
        try:
            yield
        finally:
            state.ending.set()
            serving.cancel()
            await asyncio.gather(state.worker.close(), state.quick.close())
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            state.close()

    app = FastAPI(
        title="PartGen", version=version("partgen"), lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url=f"{API}/openapi.json",
    )  # fmt: skip
    app.state.partgen = state
    app.include_router(_api(state), prefix=API)
    _pages(app)

    async def refused(_: Request, error: Exception) -> Response:
        refusal = _full(error) or as_refusal(error)
        return JSONResponse(refusal.document, refusal.status)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(word) for word in first["loc"] if word != "body")
        return JSONResponse({"error": f"The request is not as it must be: {where}: {first['msg']}."}, 400)

    async def unknown(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = {404: "There is nothing at this address.", 405: "This address does not take such a request."}
        return JSONResponse({"error": words.get(error.status_code, str(error.detail))}, error.status_code)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, unknown)
    for kind in (Refusal, OSError, sqlite3.Error):
        app.add_exception_handler(kind, refused)
    app.add_middleware(Guard, settings=settings)
    return app


def _full(error: Exception) -> Refusal | None:
    """SQLite has words of its own for a full disk."""
    if isinstance(error, sqlite3.OperationalError) and ("full" in str(error) or "disk I/O" in str(error)):
        return Refusal(507, "The disk is full; free some space and do it again.")
    return None


def _api(state: State) -> APIRouter:
    api = APIRouter()
    for part in (_about, _uploads, _jobs, _objects, _changes):
        part(api, state)
    return api


def _about(api: APIRouter, state: State) -> None:
    settings = state.settings

    @api.get("/about")
    async def about() -> dict[str, Any]:
        """What this server can do."""
        drawn = {kind: (settings.models / f"{kind}_to_mv").is_dir() for kind in ("text", "image")}
        return {
            "version": version("partgen"),
            "models": str(settings.models),
            "formats_in": [f".{one}" for one in OBJECTS],
            "formats_out": list(FORMATS_OUT),
            "pictures_in": [f".{one}" for one in PICTURES],
            "limits": {"upload_bytes": MOST_UPLOAD_BYTES, "queue": MOST_QUEUED},
            "generators": {**drawn, "note": NOTE},
            "palette": [f"#{bytes(colour).hex()}" for colour in PART_COLOURS[1:].tolist()],
        }

    @api.get("/samples")
    async def samples() -> list[dict[str, str]]:
        """Objects to begin with."""
        return [
            {
                "name": one.name, "title": one.title, "author": one.author, "licence": one.licence,
                "picture": f"{API}/samples/{one.name}/picture",
            }
            for one in state.samples.values()
        ]  # fmt: skip

    @api.get("/samples/{name}/picture")
    async def sample_picture(name: str) -> Response:
        """A sample, drawn at the first request."""
        if name not in state.samples:
            raise Refusal(404, "There is no such sample.")
        path = settings.state / "samples" / f"{state.samples[name].path.stem}.png"
        made = await state.made_once(path, "sample", {"path": str(state.samples[name].path)})
        return _file(made, FOREVER)


def _uploads(api: APIRouter, state: State) -> None:
    uploads = state.uploads

    @api.post("/uploads", status_code=201, response_model=UploadDocument)
    async def upload(request: Request, name: str = "upload") -> Any:
        """The body is the file itself: a 3D object, an archive with one, or a picture."""
        length = request.headers.get("content-length", "")
        return await uploads.take(name, int(length) if length.isdecimal() else None, request.stream())

    @api.get("/uploads/{upload_id}", response_model=UploadDocument)
    async def uploaded(upload_id: str) -> Any:
        """What was uploaded."""
        return uploads.get(upload_id)

    @api.post("/uploads/{upload_id}/cutout", response_model=CutOut)
    async def cut_out(upload_id: str) -> Any:
        """Find the object in a picture."""
        found = _picture(upload_id)
        folder = uploads.folder / found.id
        return cut(found.id, await state.compute("cut_out", {
            "path": str(uploads.path(found)), "picture": str(folder / PICTURE), "mask": str(folder / MASK)
        }))  # fmt: skip

    @api.put("/uploads/{upload_id}/mask", response_model=CutOut)
    async def put_mask(upload_id: str, request: Request) -> Any:
        """The body is a grey PNG of the picture's size, white where its object is."""
        found = _picture(upload_id)
        folder = uploads.folder / found.id
        if not (folder / PICTURE).is_file():
            raise Refusal(400, "The picture has not been cut out yet; ask for that first.")
        content = await _body(request, 2**26)
        painted = f"painted-{secrets.token_hex(8)}"
        uploads.put(found, painted, content)
        try:
            made = await state.compute("mask", {
                "content": str(folder / painted), "picture": str(folder / PICTURE), "mask": str(folder / MASK)
            })  # fmt: skip
        finally:
            (folder / painted).unlink(missing_ok=True)
        return cut(found.id, made)

    @api.get("/uploads/{upload_id}/{which}")
    async def cut_file(upload_id: str, which: str) -> Response:
        """`picture` as it is read, or the `mask` of its object."""
        found, names = _picture(upload_id), {"picture": PICTURE, "mask": MASK}
        path = uploads.folder / found.id / names.get(which, "")
        if which not in names or not path.is_file():
            raise Refusal(404, "There is no such picture; cut it out first.")
        return _file(path, {"cache-control": "no-store"})

    def _picture(upload_id: str) -> Any:
        found = uploads.get(upload_id)
        if found.kind != "picture":
            raise Refusal(400, f"{found.name} is no picture, so that nothing can be cut out of it.")
        return found

    def cut(upload_id: str, made: dict[str, Any]) -> dict[str, Any]:
        base = f"{API}/uploads/{upload_id}"
        return {"id": upload_id, **made, "picture": f"{base}/picture", "mask": f"{base}/mask"}


def _jobs(api: APIRouter, state: State) -> None:
    jobs, runner = state.jobs, state.runner

    @api.post("/jobs", status_code=202, response_model=JobDocument)
    async def submit(request: Request, body: JobRequest) -> Any:
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
                async with asyncio.timeout(5):
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
            _check_free(state, found, body.version)
        if command == "edit" and not body.part:
            raise Refusal(400, "edit needs the name or the number of a part.")
        if command == "take-out" and len(body.points) != 1:
            raise Refusal(400, "take-out needs one point.")
        wanted |= {"object": found.id, "version": found.current}
        title = ": ".join(filter(None, (values["name"], prompt or (upload.name if upload else body.sample or ""))))
    return wanted, title[:200] or command


def _check_free(state: State, found: Object, version: int | None) -> None:
    """Refusal (409) when another version is shown than the client sees, or the object is about to be changed."""
    if version is not None and version != found.current:
        raise Refusal(
            409, f"The object was changed meanwhile: this is version {found.current} now.", version=found.current
        )
    busy = state.jobs.busy(found.id)
    if busy is not None:
        raise Refusal(
            409, f"The object is being changed ({busy.command}); wait for that, or cancel it.", version=found.current
        )


def _objects(api: APIRouter, state: State) -> None:
    objects = state.objects

    @api.get("/objects", response_model=list[Card])
    async def gallery() -> Any:
        """All objects, the newest first."""
        found = []
        for one in objects.all():
            with contextlib.suppress(Refusal):
                found.append(state.documents.card(one))
        return found

    @api.get("/objects/{object_id}")
    async def one_object(object_id: str) -> Response:
        """An object, its parts and its files."""
        return JSONResponse(state.document(objects.get(object_id)))

    @api.delete("/objects/{object_id}", status_code=204)
    async def delete(object_id: str) -> None:
        """Remove an object with all its versions."""
        async with objects.lock(object_id):
            found = objects.get(object_id)
            _check_free(state, found, None)
            objects.delete(found)
            shutil.rmtree(state.settings.state / "made" / found.id, ignore_errors=True)

    @api.get("/objects/{object_id}/versions/{number}/files/{name:path}")
    async def file(object_id: str, number: int, name: str) -> Response:
        """A file of a version."""
        found = objects.get(object_id)
        if number not in found.versions:
            raise Refusal(404, "There is no such version of this object.")
        of, made = found.versions[number], state.settings.state / "made" / found.id / str(number)
        if name in (PREVIEW, ATOMS_GLB):
            values = state.documents.values(of)
            if name == ATOMS_GLB and not values.get("surface"):
                raise Refusal(404, "This result has no surface of its own.")
            task = "preview" if name == PREVIEW else "atoms"
            return _file(await state.made_once(made / name, task, {"result": str(of.folder)}), FOREVER)
        files = state.documents.files(of)
        if name not in files:
            raise Refusal(404, "There is no such file of this object.")
        return _file(files[name], {"cache-control": "private, no-cache"})

    @api.get("/objects/{object_id}/download")
    async def download(object_id: str, formats: str = "glb", parts: str = "", separate: bool = False) -> Response:
        """An archive: the object, or the parts whose numbers are given, in formats, with its licence."""
        found = objects.get(object_id)
        labels = [one.strip() for one in parts.split(",") if one.strip()]
        if not all(one.isdecimal() and len(one) < 4 for one in labels):
            raise Refusal(400, f"The parts are {parts[:80]!r}; give numbers with commas between them.")
        name = state.documents.values(found.version)["name"]
        path = state.settings.state / f"pack-{secrets.token_hex(8)}.zip"
        await state.compute("pack", {
            "result": str(found.version.folder), "out": str(path), "parts": [int(one) for one in labels],
            "formats": [one for one in formats.split(",") if one.strip()], "separate": separate,
        })  # fmt: skip
        return FileResponse(
            path, media_type="application/zip", filename=f"{name}.zip", background=BackgroundTask(path.unlink)
        )


def _changes(api: APIRouter, state: State) -> None:
    objects = state.objects

    async def change(object_id: str, body: Change, command: str, arguments: dict[str, Any]) -> Response:
        async with objects.lock(object_id):
            found = objects.get(object_id)
            _check_free(state, found, body.version)
            found, number, out = objects.next_folder(found)
            try:
                base = str(found.version.folder)
                await state.compute("change", {"command": command, "result": base, "out": str(out), **arguments})
            except BaseException:
                objects.release(found.folder)
                raise
            return JSONResponse(state.document(objects.add(found, number, command, found.current)))

    @api.post("/objects/{object_id}/regroup")
    async def regroup(object_id: str, body: Regroup) -> Response:
        """Another number of parts out of the hierarchy."""
        return await change(object_id, body, "regroup", {"parts": body.parts})

    @api.post("/objects/{object_id}/merge")
    async def merge(object_id: str, body: Merge) -> Response:
        """Several parts as one."""
        return await change(object_id, body, "merge", {"parts": names_of(body.parts), "name": body.name})

    @api.post("/objects/{object_id}/split")
    async def split(object_id: str, body: Split) -> Response:
        """One part in two."""
        return await change(object_id, body, "split", {"part": str(body.part)})

    @api.post("/objects/{object_id}/rename")
    async def rename(object_id: str, body: Rename) -> Response:
        """A part under another name."""
        return await change(object_id, body, "rename", {"part": str(body.part), "name": body.name})

    @api.post("/objects/{object_id}/recolour")
    async def recolour(object_id: str, body: Recolour) -> Response:
        """A part in another colour."""
        return await change(object_id, body, "recolour", {"part": str(body.part), "colour": body.colour or ""})

    @api.post("/objects/{object_id}/take-out")
    async def take_out(object_id: str, body: TakeOut) -> Response:
        """What is at some pixels, or some pieces of the surface, as a part of its own."""
        if not state.documents.values(objects.get(object_id).version).get("surface"):
            raise Refusal(400, "This object has no surface of its own; ask for a job `take-out`, which draws it anew.")
        points = [point.values for point in body.points]
        return await change(object_id, body, "take-out", {"points": points, "atoms": body.atoms})

    def moved(how: Callable[[Object], Object]) -> Callable[[str, Change], Awaitable[Response]]:
        async def move(object_id: str, body: Change) -> Response:
            async with objects.lock(object_id):
                found = objects.get(object_id)
                _check_free(state, found, body.version)
                return JSONResponse(state.document(how(found)))

        return move

    api.post("/objects/{object_id}/undo", summary="The version before")(moved(objects.undo))
    api.post("/objects/{object_id}/redo", summary="What was undone last")(moved(objects.redo))


def _pages(app: FastAPI) -> None:
    known = {name: STATIC[1] / name for name in SHARED}
    for path in sorted(STATIC[0].rglob("*")):
        if path.is_file():
            known[path.relative_to(STATIC[0]).as_posix()] = path

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return await static("index.html")

    @app.get("/static/{name:path}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in known:
            raise Refusal(404, "There is nothing at this address.")
        return _file(known[name], {"cache-control": "no-cache"})


def _file(path: Path, headers: dict[str, str]) -> FileResponse:
    return FileResponse(path, media_type=TYPES.get(path.suffix, "application/octet-stream"), headers=headers)


async def _body(request: Request, most: int) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise Refusal(413, f"The request is larger than {most // 2**20} MB; send less.")
    return bytes(content)
