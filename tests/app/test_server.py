"""The server's answers without its processes: uploads, objects on the disk, who may ask, and what is refused."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pipeline.app import uploads
from pipeline.app.server import create_app
from pipeline.app.settings import AppSettings
from pipeline.errors import UserError
from tests.app.running import ROOT, SAMPLES
from tests.applications.test_result import an_object
from tests.stages.test_refusals import on_small_disk

HOST = "127.0.0.1:8765"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def app(results: Path) -> Iterator[FastAPI]:
    """Without its processes, which start with the lifespan."""
    made = create_app(settings(results))
    yield made
    made.state.partgen.close()


def settings(results: Path, host: str = "127.0.0.1", token: str = "") -> AppSettings:
    return AppSettings(host, 8765, results, ROOT / "weights/nano", token)


def ask(app: FastAPI, method: str, path: str, host: str = HOST, **given: Any) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **given)

    return asyncio.run(asked())


def uploaded(app: FastAPI, content: bytes, name: str = "a.glb") -> httpx.Response:
    return ask(app, "POST", "/api/v1/uploads", params={"name": name}, content=content)


def test_what_it_is_called_is_shown_and_what_is_in_it_decides(app: FastAPI, results: Path) -> None:
    content = (SAMPLES / "butter.glb").read_bytes()
    made = uploaded(app, content, "../../etc/<b>\x00pass\nwd.exe").json()
    assert made["name"] == "<b> pass wd.exe"
    assert (made["kind"], made["format"], made["bytes"]) == ("object", "glb", len(content))
    (folder,) = (results / ".app/uploads").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["b  pass wd.glb", "upload.json"]
    assert ask(app, "GET", f"/api/v1/uploads/{made['id']}").json() == made
    for other in ("0" * 32, made["id"].upper(), "%2e%2e%2f%2e%2e", made["id"] + "%00"):
        assert ask(app, "GET", f"/api/v1/uploads/{other}").status_code == 404


@pytest.mark.parametrize("content", [b"", b"%PDF-1.7 ...", b"\x7fELF" + bytes(99), b'{"a": 1}', b"<svg/>", b"words"])
def test_other_files_are_refused_and_leave_nothing(app: FastAPI, results: Path, content: bytes) -> None:
    answer = uploaded(app, content, "chair.glb")
    assert answer.status_code == 415
    assert list((results / ".app/uploads").iterdir()) == []


def test_what_is_too_large_is_refused_before_it_is_read_and_while_it_comes(
    app: FastAPI, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_UPLOAD_BYTES", 1000)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield bytes(100)

    assert ask(app, "POST", "/api/v1/uploads", content=bytes(1001)).status_code == 413
    answer = ask(app, "POST", "/api/v1/uploads", content=chunks())
    assert (answer.status_code, "The file is larger" in answer.json()["error"]) == (413, True)
    assert list((results / ".app/uploads").iterdir()) == []


def test_a_page_of_another_site_and_another_name_of_the_host_are_refused(app: FastAPI) -> None:
    about = "/api/v1/about"
    assert ask(app, "GET", about).status_code == 200
    assert ask(app, "GET", about, host="localhost:8765").status_code == 200
    assert ask(app, "GET", about, host="[::1]:8765").status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example:8765", "10.0.0.1:8765"):
        answer = ask(app, "GET", about, host=host)
        assert (answer.status_code, "is not called" in answer.json()["error"]) == (403, True)
    assert ask(app, "GET", about, headers={"origin": f"http://{HOST}"}).status_code == 200
    for origin in ("http://evil.example", "null", "http://localhost:1234", f"http://{HOST}.evil.example"):
        assert ask(app, "GET", about, headers={"origin": origin}).status_code == 403, origin
    assert ask(app, "GET", about, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    answer = ask(app, "GET", about)
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in answer.headers


def test_beyond_this_machine_a_token_is_needed(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path / "results", "0.0.0.0", "secret"))
    about, name = "/api/v1/about", "workshop:8765"
    assert ask(app, "GET", about, host=name).status_code == 401
    assert ask(app, "GET", "/", host=name).status_code == 401
    assert ask(app, "GET", about, host=name, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert ask(app, "GET", about, host=name, headers={"authorization": "Bearer secret"}).status_code == 200
    assert ask(app, "GET", "/?token=wrong", host=name).status_code == 401
    entered = ask(app, "GET", "/?token=secret", host=name)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict"} <= {word.strip() for word in entered.headers["set-cookie"].split(";")}
    cookie = {"cookie": entered.headers["set-cookie"].partition(";")[0]}
    assert ask(app, "GET", about, host=name, headers=cookie).status_code == 200
    assert ask(app, "GET", about, host=name, headers={**cookie, "origin": "http://evil.example"}).status_code == 403
    app.state.partgen.close()


def saved(results: Path, name: str) -> dict[str, Any]:
    an_object().save(results / name)
    return {}


def test_results_on_the_disk_are_objects_whose_listed_files_alone_are_served(app: FastAPI, results: Path) -> None:
    saved(results, "chair")
    (results / "notes").mkdir()
    (results / "chair/secret.txt").write_text("secret")
    (card,) = ask(app, "GET", "/api/v1/objects").json()
    assert (card["name"], card["parts"], card["own_surface"]) == ("chair", 2, False)
    found = ask(app, "GET", f"/api/v1/objects/{card['id']}").json()
    assert [part["name"] for part in found["parts"]] == [part.name for part in an_object().parts]
    assert found["licence"] == "“Chair” by Ünal"
    assert (len(found["segmentations"]), found["segmentation"]) == (2, None)
    body = {"command": "choose", "object": card["id"], "version": found["version"]}
    refused = ask(app, "POST", "/api/v1/jobs", json=body)
    assert (refused.status_code, "needs the option use" in refused.json()["error"]) == (400, True)
    assert ask(app, "POST", "/api/v1/jobs", json={**body, "options": {"use": 2}}).status_code < 300
    base = f"/api/v1/objects/{card['id']}/versions/1/files"
    assert ask(app, "GET", f"{base}/parts/01-seat.glb").content == b"glb of the seat"
    etag = ask(app, "GET", f"{base}/grid.png").headers["etag"]
    assert etag
    for name in (
        "secret.txt",
        "result.json",
        "../chair/secret.txt",
        "%2e%2e/%2e%2e/notes",
        "SHA256SUMS",
        "fields/01.safetensors",
    ):
        answer = ask(app, "GET", f"{base}/{name}")
        assert (answer.status_code, "error" in answer.json()) == (404, True), name
    assert ask(app, "GET", f"/api/v1/objects/{card['id']}/versions/2/files/grid.png").status_code == 404
    (results / "chair/grid.png").unlink()
    (results / "chair/grid.png").symlink_to("/etc/hostname")
    assert ask(app, "GET", f"{base}/grid.png").status_code == 404
    shutil.rmtree(results / "chair")
    assert ask(app, "GET", f"/api/v1/objects/{card['id']}").status_code == 404
    assert ask(app, "GET", "/api/v1/objects").json() == []


def test_a_damaged_result_hides_no_other(app: FastAPI, results: Path) -> None:
    saved(results, "chair")
    saved(results, "broken")
    (results / "broken/result.json").write_text('{"parts": 3}')
    assert len(ask(app, "GET", "/api/v1/objects").json()) == 1


def test_objects_and_jobs_are_there_after_a_restart_even_without_the_database(tmp_path: Path) -> None:
    results = tmp_path / "results"
    saved(results, "chair/1")
    saved(results, "chair/2")
    first = create_app(settings(results))
    (card,) = ask(first, "GET", "/api/v1/objects").json()
    body = {"version": card["version"]}
    assert ask(first, "POST", f"/api/v1/objects/{card['id']}/undo", json=body).json()["version"] == 1
    job = ask(first, "POST", "/api/v1/jobs", json={"command": "decompose", "sample": "butter"}).json()
    with pytest.raises(UserError, match="Another `partgen app` works in"):
        create_app(settings(results))
    first.state.partgen.close()
    second = create_app(settings(results))
    found = ask(second, "GET", f"/api/v1/objects/{card['id']}").json()
    assert (found["version"], found["can_redo"]) == (1, True)
    assert ask(second, "GET", f"/api/v1/jobs/{job['id']}").json()["state"] == "queued"
    second.state.partgen.close()
    (results / ".app/app.sqlite").write_bytes(b"no database" * 1000)
    third = create_app(settings(results))
    (again,) = ask(third, "GET", "/api/v1/objects").json()
    assert (again["version"], again["name"]) == (2, "chair")
    third.state.partgen.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"command": "dance"}, "command"),
        ({"command": "decompose"}, "one of upload, sample"),
        ({"command": "decompose", "sample": "butter", "options": {"nonsense": 1}}, "nonsense"),
        ({"command": "decompose", "sample": "butter", "options": {"name": "x"}}, "has no option name"),
        ({"command": "decompose", "sample": "butter", "prompt": "a chair"}, "one of upload, sample"),
        ({"command": "decompose", "sample": "butter", "options": {"parts": 0}}, "parts"),
        ({"command": "from-text", "prompt": "  "}, "from-text takes prompt"),
        ({"command": "edit", "prompt": "a chair"}, "needs object"),
        ({"command": "choose", "options": {"use": 2}}, "needs object"),
        ({"command": "decompose", "sample": "butter", "object": "0" * 32}, "takes no object"),
        (["no object"], "as it must be"),
    ],
)
def test_requests_that_cannot_be_are_one_sentence(app: FastAPI, body: Any, words: str) -> None:
    answer = ask(app, "POST", "/api/v1/jobs", json=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_the_queue_is_bounded_and_a_waiting_job_can_be_cancelled(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.app.jobs.MOST_QUEUED", 2)
    body = {"command": "decompose", "sample": "butter"}
    first, second = (ask(app, "POST", "/api/v1/jobs", json=body).json() for _ in range(2))
    assert (first["position"], second["position"]) == (0, 1)
    assert ask(app, "POST", "/api/v1/jobs", json=body).status_code == 429
    assert ask(app, "DELETE", f"/api/v1/jobs/{first['id']}").json()["state"] == "cancelled"
    assert ask(app, "GET", f"/api/v1/jobs/{second['id']}").json()["position"] == 0
    assert "event-stream" in ask(app, "GET", f"/api/v1/jobs/{first['id']}/events").headers["content-type"]


def test_the_description_of_the_api_names_all_of_it(app: FastAPI) -> None:
    paths = ask(app, "GET", "/api/v1/openapi.json").json()["paths"]
    for what in ("regroup", "merge", "split", "rename", "recolour", "take-out", "undo", "redo", "download"):
        assert f"/api/v1/objects/{{object_id}}/{what}" in paths
    assert all(one.get("summary") for path in paths.values() for one in path.values())
    assert ask(app, "GET", "/docs").status_code == 404
    assert ask(app, "GET", "/static/..%2fserver.py").status_code == 404
    assert ask(app, "GET", "/static/three.min.js").status_code == 200


FULL = """
import asyncio, os, sys
from pathlib import Path
from tests.app.test_server import ask, settings, uploaded
from pipeline.app.server import create_app
disk = Path(sys.argv[-1])
app = create_app(settings(disk / "results"))
full = uploaded(app, bytes(b"glTF") + os.urandom(2_000_000))
print(full.status_code, full.json()["error"])
print(ask(app, "GET", "/api/v1/about").status_code)
room = os.statvfs(disk)
(disk / "filler").write_bytes(bytes(room.f_bavail * room.f_bsize))
job = {"command": "from-text", "prompt": "x" * 4000}
answers = (ask(app, "POST", "/api/v1/jobs", json=job) for _ in range(100))
print(next(one for one in answers if one.status_code != 202).json()["error"])
"""


@pytest.mark.slow
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    done = on_small_disk(tmp_path / "disk", [sys.executable, "-c", FULL, str(tmp_path / "disk")], "size=1m")
    assert done.returncode == 0, done.stderr
    upload, about, job = done.stdout.splitlines()
    assert upload.startswith("507 ")
    assert "free some space" in upload
    assert about == "200"
    assert job == "The disk is full; free some space and do it again."
