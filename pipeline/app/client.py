"""A client of `partgen app`, for programs: what the page does, in a few lines.

    from partgen import Client

    with Client("http://127.0.0.1:8765") as client:
        chair = client.decompose("chair.glb", parts=6)
        chair = client.merge(chair, [2, 3], name="legs")
        client.fetch(chair, "chair.zip", formats=["obj"])

Objects and jobs are the documents of the API, as dictionaries. What the server refuses is a `UserError`, NotFound where
something is not there.
"""

import json
import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from pipeline.app.settings import API, PORT
from pipeline.errors import Invalid, NotFound, UserError

Document = dict[str, Any]
CONNECT_S, ANSWER_S = 10.0, 300.0


class JobFailed(UserError):
    """A job came to no result; `job` is its document."""

    def __init__(self, message: str, job: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.job = job


class Client:
    """One server; to be closed, or used in a `with`."""

    def __init__(self, url: str = f"http://127.0.0.1:{PORT}", token: str = "") -> None:
        """`url` as `partgen app` prints it, where a token may be in it; nothing is asked yet."""
        base = httpx.URL(url)
        token = token or base.params.get("token", "")
        self._http = httpx.Client(
            base_url=base.copy_with(path=API, query=None),
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._http.close()

    def upload(self, path: str | Path) -> Document:
        """A 3D object, an archive of one with its textures, or a picture; its `id` is what jobs take."""
        file = Path(path)
        if not file.is_file():
            raise NotFound(f"There is no file {file}; give a 3D object, an archive of one, or a picture.")
        with file.open("rb") as stream:
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            sent = {"content-type": kind, "content-length": str(file.stat().st_size)}
            return self._ask("POST", "/uploads", params={"name": file.name}, content=stream, headers=sent)

    def submit(self, command: str, **request: Any) -> Document:
        """A job: `upload` or `sample`, `object`, `prompt`, `part` as the command needs them, and its `options`."""
        return self._ask("POST", "/jobs", json={"command": command, **request})

    def job(self, job: str | Document) -> Document:
        """How far a job is."""
        return self._ask("GET", f"/jobs/{_id(job)}")

    def events(self, job: str | Document) -> Iterator[Document]:
        """The job at each of its changes, until it is over."""
        with self._refused(), self._http.stream("GET", f"/jobs/{_id(job)}/events") as answer:
            if answer.is_error:
                answer.read()
                _check(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def wait(self, job: str | Document) -> Document:
        """The object that a job has made; JobFailed when it failed or was cancelled."""
        last = list(self.events(job))[-1]
        if last["state"] != "done":
            raise JobFailed(last["error"] or f"The job was {last['state']}.", last)
        return self.get(last["object"])

    def cancel(self, job: str | Document) -> Document:
        """End a job."""
        return self._ask("DELETE", f"/jobs/{_id(job)}")

    def objects(self) -> list[Document]:
        """All objects, the newest first."""
        found: list[Document] = self._ask("GET", "/objects")
        return found

    def get(self, object_: str | Document) -> Document:
        """An object as it is now."""
        return self._ask("GET", f"/objects/{_id(object_)}")

    def decompose(self, path: str | Path, **options: Any) -> Document:
        """The parts of a 3D object; options as of `partgen decompose`, such as `parts=6`."""
        return self.wait(self.submit("decompose", upload=self.upload(path)["id"], options=options))

    def from_image(self, path: str | Path, **options: Any) -> Document:
        """An object in parts out of a picture."""
        return self.wait(self.submit("from-image", upload=self.upload(path)["id"], options=options))

    def from_text(self, prompt: str, **options: Any) -> Document:
        """An object in parts out of a text."""
        return self.wait(self.submit("from-text", prompt=prompt, options=options))

    def edit(self, object_: Document, part: str | int, prompt: str, **options: Any) -> Document:
        """The object with one part drawn anew after a text."""
        of = _seen(object_)
        return self.wait(self.submit("edit", **of, part=str(part), prompt=prompt, options=options))

    def add(
        self, object_: Document, *, text: str | None = None, file: str | Path | None = None, **options: Any
    ) -> Document:
        """The object with one part more, out of a text, or of a picture or 3D object in a file; options `place`,
        `scale`, `name`.
        """
        if (text is None) == (file is None):
            raise Invalid("Give one of a text and a file to add.")
        thing = {"prompt": text} if file is None else {"upload": self.upload(file)["id"]}
        return self.wait(self.submit("add", **_seen(object_), **thing, options=options))

    def regroup(self, object_: Document, parts: int | None = None) -> Document:
        """The object in another number of parts."""
        return self._change(object_, "regroup", parts=parts)

    def merge(self, object_: Document, parts: Sequence[int | str], *, name: str = "") -> Document:
        """The object with several parts as one."""
        return self._change(object_, "merge", parts=list(parts), name=name)

    def split(self, object_: Document, part: int | str) -> Document:
        """The object with one part in two."""
        return self._change(object_, "split", part=part)

    def rename(self, object_: Document, part: int | str, name: str) -> Document:
        """The object with a part under another name."""
        return self._change(object_, "rename", part=part, name=name)

    def recolour(self, object_: Document, part: int | str, colour: str | None) -> Document:
        """The object with a part that label maps show in another colour, such as `#3cb44b`; None: its own."""
        return self._change(object_, "recolour", part=part, colour=colour)

    def take_out(
        self, object_: Document, points: Sequence[tuple[int, int, int]] = (), *, atoms: Sequence[int] = ()
    ) -> Document:
        """What is at points (x, y, view) of the views, or some pieces of the surface, as a part of its own."""
        seen = [{"x": x, "y": y, "view": view} for x, y, view in points]
        if object_["own_surface"]:
            return self._change(object_, "take-out", points=seen, atoms=list(atoms))
        return self.wait(self.submit("take-out", **_seen(object_), points=seen))

    def choose(self, object_: Document, use: int) -> Document:
        """The object made of another of the segmentations that it keeps, from 1."""
        return self.wait(self.submit("choose", **_seen(object_), options={"use": use}))

    def undo(self, object_: Document) -> Document:
        """The version before."""
        return self._change(object_, "undo")

    def redo(self, object_: Document) -> Document:
        """What was undone last."""
        return self._change(object_, "redo")

    def delete(self, object_: str | Document) -> None:
        """Remove an object with all its versions."""
        self._ask("DELETE", f"/objects/{_id(object_)}")

    def fetch(
        self,
        object_: str | Document,
        path: str | Path,
        *,
        formats: Sequence[str] = ("glb",),
        parts: Sequence[int] = (),
        separate: bool = False,
    ) -> Path:
        """Save an archive of the object, or of some parts, in formats, with its licence; UserError where a file is."""
        out = Path(path)
        asked: dict[str, str | bool] = {
            "formats": ",".join(formats),
            "parts": ",".join(map(str, parts)),
            "separate": separate,
        }
        try:
            with self._refused(), out.open("xb") as file:
                try:
                    with self._http.stream("GET", f"/objects/{_id(object_)}/download", params=asked) as answer:
                        if answer.is_error:
                            answer.read()
                        _check(answer)
                        for chunk in answer.iter_bytes():
                            file.write(chunk)
                except BaseException:
                    out.unlink()
                    raise
        except FileExistsError:
            raise UserError(f"{out} is there already and would be overwritten; give another name.") from None
        return out

    def _change(self, object_: Document, what: str, **arguments: Any) -> Document:
        body = {"version": object_["version"], **arguments}
        return self._ask("POST", f"/objects/{object_['id']}/{what}", json=body)

    def _ask(self, method: str, path: str, **given: Any) -> Any:
        with self._refused():
            answer = self._http.request(method, path, **given)
        _check(answer)
        return answer.json() if answer.content else None

    def _refused(self) -> "_Refused":
        return _Refused(str(self._http.base_url))


class _Refused:
    """A server that cannot be reached is one sentence."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, httpx.TransportError):
            raise UserError(
                f"The server {self.url} does not answer ({type(error).__name__}); start it with `partgen app`."
            ) from None


def _seen(object_: Document) -> dict[str, Any]:
    return {"object": object_["id"], "version": object_["version"]}


def _id(of: str | Document) -> str:
    return of if isinstance(of, str) else str(of["id"])


def _check(answer: httpx.Response) -> None:
    """UserError when it is a refusal."""
    if not answer.is_error:
        return
    try:
        sentence = str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        sentence = f"The server {answer.url} answers with the status {answer.status_code}."
    raise (NotFound if answer.status_code == 404 else Invalid if answer.status_code == 400 else UserError)(sentence)
