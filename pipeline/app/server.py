"""The server's HTTP API, under /api/v1, and its page.

Every path of a client is looked up among what this program knows, and none is ever opened.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from pipeline.app.api_jobs import add_jobs
from pipeline.app.api_objects import add_changes, add_objects
from pipeline.app.api_uploads import add_about, add_uploads
from pipeline.app.pages import add_pages
from pipeline.app.refusals import Refusal, as_refusal
from pipeline.app.security import Guard
from pipeline.app.settings import API, AppSettings
from pipeline.app.state import begin, lived


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
    api = APIRouter()
    for part in (add_about, add_uploads, add_jobs, add_objects, add_changes):
        part(api, state)
    app.include_router(api, prefix=API)
    add_pages(app)

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
