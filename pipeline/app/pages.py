"""The page and its files, and how files are answered."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

from pipeline.app.refusals import Refusal
from pipeline.project import SHIPPED

STATIC = (Path(__file__).parent / "static", SHIPPED / "pipeline/report/static")
"""The page's own files, and three.js, of which there is one copy."""
SHARED = ("three.min.js", "three-LICENSE.txt")
FORMATS_OUT = ("glb", "obj", "stl", "ply", "3mf")
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png", ".gif": "image/gif", ".glb": "model/gltf-binary",
    ".json": "application/json", ".txt": "text/plain; charset=utf-8", ".woff2": "font/woff2", ".ico": "image/x-icon",
}  # fmt: skip
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}


def add_pages(app: FastAPI) -> None:
    """The page at `/`, its files at /static; files that are there when the server starts."""
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
        return sent_file(known[name], {"cache-control": "no-cache"})


def sent_file(path: Path, headers: dict[str, str]) -> FileResponse:
    """A file of this program, by its suffix."""
    return FileResponse(path, media_type=TYPES.get(path.suffix, "application/octet-stream"), headers=headers)
