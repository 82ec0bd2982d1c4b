"""The part of the API that has what objects are made from: samples and uploads."""

import secrets
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from pipeline.app.documents import CutOut, UploadDocument
from pipeline.app.pages import FOREVER, FORMATS_OUT, sent_file
from pipeline.app.refusals import Refusal
from pipeline.app.settings import API, MOST_QUEUED, MOST_UPLOAD_BYTES
from pipeline.app.sniff import OBJECTS, PICTURES
from pipeline.app.state import State
from pipeline.app.uploads import MASK, PICTURE, Upload
from pipeline.views.palette import PART_COLOURS

NOTE = "Texts and pictures are drawn by the small models that come with PartGen: a demonstration at 64 px a view."
MOST_MASK_BYTES = 2**26


def add_about(api: APIRouter, state: State) -> None:
    """What the server can do, and its samples."""
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
        return sent_file(made, FOREVER)


def add_uploads(api: APIRouter, state: State) -> None:
    """Files of users, and what is cut out of pictures."""
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
        content = await _body(request)
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
        return sent_file(path, {"cache-control": "no-store"})

    def _picture(upload_id: str) -> Upload:
        found = uploads.get(upload_id)
        if found.kind != "picture":
            raise Refusal(400, f"{found.name} is no picture, so that nothing can be cut out of it.")
        return found

    def cut(upload_id: str, made: dict[str, Any]) -> dict[str, Any]:
        base = f"{API}/uploads/{upload_id}"
        return {"id": upload_id, **made, "picture": f"{base}/picture", "mask": f"{base}/mask"}


async def _body(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MOST_MASK_BYTES:
            raise Refusal(413, f"The request is larger than {MOST_MASK_BYTES // 2**20} MB; send less.")
    return bytes(content)
