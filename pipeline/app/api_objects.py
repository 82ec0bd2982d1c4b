"""The part of the API that has objects: their files, their corrections, what is taken away."""

import contextlib
import secrets
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask

from pipeline.app.documents import ATOMS_GLB, PREVIEW, Card, names_of
from pipeline.app.objects import Object
from pipeline.app.pages import FOREVER, sent_file
from pipeline.app.refusals import Refusal
from pipeline.app.requests import Change, Merge, Recolour, Regroup, Rename, Split, TakeOut
from pipeline.app.state import State


def add_objects(api: APIRouter, state: State) -> None:
    """The gallery, and an object with its files."""
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
            state.check_free(found, None)
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
            return sent_file(await state.made_once(made / name, task, {"result": str(of.folder)}), FOREVER)
        files = state.documents.files(of)
        if name not in files:
            raise Refusal(404, "There is no such file of this object.")
        return sent_file(files[name], {"cache-control": "private, no-cache"})

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


def add_changes(api: APIRouter, state: State) -> None:
    """What is answered at once and makes a new version."""
    objects = state.objects

    async def change(object_id: str, body: Change, command: str, arguments: dict[str, Any]) -> Response:
        async with objects.lock(object_id):
            found = objects.get(object_id)
            state.check_free(found, body.version)
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
                state.check_free(found, body.version)
                return JSONResponse(state.document(how(found)))

        return move

    api.post("/objects/{object_id}/undo", summary="The version before")(moved(objects.undo))
    api.post("/objects/{object_id}/redo", summary="What was undone last")(moved(objects.redo))
