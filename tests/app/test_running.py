"""A real server with its real processes and the published weights: what users do, and what it must withstand."""

import asyncio
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import trimesh

from partgen import Client, NotFound, UserError
from pipeline.app.client import JobFailed
from pipeline.app.tasks import masked
from pipeline.app.uploads import MASK, PICTURE
from pipeline.applications.photo import cut_out, read_picture
from pipeline.applications.result import PartObject
from pipeline.assets.glb import read_header
from pipeline.shards.table import decode_png, encode_png
from tests.app.running import SAMPLES, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SAMPLE = SAMPLES / "modernVanity.glb"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "results", scratch / "scratch") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with server.client() as found:
        yield found


@pytest.fixture(scope="module")
def vanity(client: Client) -> dict[str, Any]:
    """The first version of an object."""
    return client.decompose(SAMPLE, parts=4)


def raw(server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"{server.url}api/v1", timeout=60)


def names(document: dict[str, Any]) -> list[str]:
    return [part["name"] for part in document["parts"]]


def test_an_object_is_taken_apart_corrected_and_taken_away(
    server: Server, client: Client, vanity: dict[str, Any], scratch: Path
) -> None:
    assert len(vanity["parts"]) == 4
    assert vanity["own_surface"]
    assert (vanity["can_undo"], vanity["can_redo"]) == (False, False)
    triangles = sum(part["triangles"] for part in vanity["parts"])
    atoms = sorted(atom for part in vanity["parts"] for atom in part["atoms"])
    assert atoms == list(range(vanity["hierarchy"]["pieces"]))
    (job,) = (one for one in raw(server).get("/jobs").json() if one["object"] == vanity["id"])
    assert [step["name"] for step in job["steps"]] == ["Drawing", "Parts of the surface", "Names"]
    assert (job["state"], job["progress"], job["title"]) == ("done", 1.0, SAMPLE.name)

    markup = "<img src=x onerror=alert(1)>"
    merged = client.merge(vanity, [1, 2], name=markup)
    assert names(merged)[0] == markup
    again = client.split(merged, 1)
    assert [set(part["atoms"]) for part in again["parts"][:1]] != [set(merged["parts"][0]["atoms"])]
    seven = client.regroup(again, 7)
    for document in (merged, again, seven):
        assert sum(part["triangles"] for part in document["parts"]) == triangles
        assert sorted(atom for part in document["parts"] for atom in part["atoms"]) == atoms
    renamed = client.rename(seven, 1, "top")
    painted = client.recolour(renamed, "top", "#010203")
    assert (painted["parts"][0]["colour"], painted["parts"][0]["own_colour"]) == ("#010203", True)
    with raw(server) as http:
        atom_map = decode_png(http.get(painted["files"]["atom_map"].removeprefix("/api/v1")).content)
        side = painted["view_size"]
        many = next(part for part in painted["parts"] if len(part["atoms"]) > 1 and _seen(atom_map, part).any())
        row, column = np.argwhere(_seen(atom_map, many))[0].tolist()
        point = (column % side, row % side, row // side * 2 + column // side)
        taken = client.take_out(painted, [point])
        assert len(taken["parts"]) == 8
        one = client.take_out(painted | {"version": taken["version"]}, atoms=[0, 1])
        assert [0, 1] in [part["atoms"] for part in one["parts"]]
        undone = client.undo(client.undo(one))
        assert (undone["parts"], undone["can_redo"]) == (painted["parts"], True)
        assert client.redo(undone)["parts"] == taken["parts"]
        last = client.get(vanity["id"])

        atoms_glb = http.get(last["files"]["atoms"].removeprefix("/api/v1")).content
        scene = trimesh.load_scene(io.BytesIO(atoms_glb), file_type="glb", process=False)
        nodes = {node["name"] for node in read_header(atoms_glb)["nodes"]}
        assert nodes == {f"atom-{number}" for number in atoms}
        assert sum(len(mesh.faces) for mesh in scene.geometry.values()) == triangles
        for name, url in last["files"].items():
            if url is not None:
                answer = http.get(url.removeprefix("/api/v1"))
                assert answer.status_code == 200, name
                assert answer.headers["x-content-type-options"] == "nosniff"
        listed = http.get("/objects").json()
        assert [card["name"] for card in listed] == ["modern vanity"]
        assert http.get(f"/objects/{last['id']}/versions/1/files/../../../../../../etc/passwd").status_code == 404
        assert http.get(f"/objects/{last['id']}/versions/1/files/%2e%2e/result.json").status_code == 404

    two = [part["label"] for part in last["parts"][:2]]
    fetched = client.fetch(last, scratch / "vanity.zip", formats=["glb", "stl"], parts=two, separate=True)
    with zipfile.ZipFile(fetched) as packed:
        found = packed.namelist()
        assert {"object.glb", "object.stl", "result.json", "LICENCE.txt"} <= set(found)
        assert len([name for name in found if name.startswith("parts/")]) == 4
        assert "CC0" in packed.read("LICENCE.txt").decode()
    with pytest.raises(UserError, match="is there already"):
        client.fetch(last, fetched)
    assert last["commands"]["shell"][0].startswith("partgen decompose modernVanity.glb --parts 4 --out ")
    folder = scratch / "results/modernvanity"
    chain = [PartObject.load(folder / str(one["version"])) for one in last["versions"]]
    assert [entry["command"] for entry in chain[-1].history] == [one["command"] for one in last["versions"]]


def _seen(atom_map: np.ndarray, part: dict[str, Any]) -> np.ndarray:
    return np.isin(atom_map, np.array(part["atoms"]) + 1)


def test_of_two_changes_of_one_version_one_wins_and_the_other_is_told(
    server: Server, client: Client, vanity: dict[str, Any]
) -> None:
    version = client.get(vanity["id"])["version"]

    def split(part: int) -> httpx.Response:
        with raw(server) as http:
            return http.post(f"/objects/{vanity['id']}/regroup", json={"version": version, "parts": part})

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(split, (3, 5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    (won,) = (answer.json() for answer in answers if answer.status_code == 200)
    (lost,) = (answer.json() for answer in answers if answer.status_code == 409)
    assert lost["version"] == won["version"]
    assert "changed meanwhile" in lost["error"]


def test_fifty_uploads_at_once(server: Server) -> None:
    async def all_at_once() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=f"{server.url}api/v1", timeout=60) as http:
            content = SAMPLE.read_bytes()
            return await asyncio.gather(
                *(http.post("/uploads", params={"name": f"{n}.glb"}, content=content) for n in range(50))
            )

    answers = asyncio.run(all_at_once())
    assert [answer.status_code for answer in answers] == [201] * 50
    assert len({answer.json()["id"] for answer in answers}) == 50
    with raw(server) as http:
        assert http.get("/about").status_code == 200


def test_a_result_of_the_command_line_appears_and_is_never_changed(
    client: Client, vanity: dict[str, Any], scratch: Path
) -> None:
    source = next(path for path in (scratch / "results/modernvanity").iterdir() if path.name == "1")
    shutil.copytree(source, scratch / "results/by-hand")
    before = (scratch / "results/by-hand/SHA256SUMS").read_bytes()
    (card,) = (one for one in client.objects() if one["id"] != vanity["id"])
    changed = client.rename(client.get(card), 1, "mine")
    assert changed["can_undo"]
    assert (scratch / "results/by-hand/SHA256SUMS").read_bytes() == before
    assert PartObject.load(scratch / "results/by-hand-edits/2").parts[0].name == "mine"
    shutil.rmtree(scratch / "results/by-hand-edits/2")
    assert not client.get(card)["can_undo"], "the version before is shown where a folder was deleted"
    shutil.rmtree(scratch / "results/by-hand")
    with pytest.raises(NotFound, match="no longer there"):
        client.get(card)
    assert [one["id"] for one in client.objects()] == [vanity["id"]]


def test_a_file_that_is_no_object_fails_with_the_sentence_of_the_command_line(client: Client, tmp_path: Path) -> None:
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    with pytest.raises(JobFailed, match=r"^flat\.obj cannot be taken apart: zero area") as failed:
        client.decompose(tmp_path / "flat.obj")
    assert failed.value.job["state"] == "failed"
    with pytest.raises(JobFailed, match="'nonsense'; give model or nodes"):
        client.wait(client.submit("decompose", sample="butter", options={"parts_from": "nonsense"}))


def test_what_is_cut_out_of_a_picture_can_be_painted_over(server: Server) -> None:
    picture = np.zeros((40, 60, 4), np.uint8)
    picture[10:30, 20:40] = (200, 30, 30, 255)
    with raw(server) as http:
        upload = http.post("/uploads", params={"name": "red.png"}, content=encode_png(picture)).json()
        assert upload["kind"] == "picture"
        base = f"/uploads/{upload['id']}"
        assert http.put(f"{base}/mask", content=b"x").status_code == 400, "there is nothing to paint on yet"
        found = http.post(f"{base}/cutout").json()
        assert (found["width"], found["height"], found["note"]) == (60, 40, "")
        np.testing.assert_array_equal(decode_png(http.get(f"{base}/mask").content), picture[..., 3])
        assert decode_png(http.get(f"{base}/picture").content).shape == (40, 60, 3)
        painted = np.zeros((40, 60), np.uint8)
        painted[5:35, 10:30] = 255
        assert http.put(f"{base}/mask", content=encode_png(painted)).status_code == 200
        np.testing.assert_array_equal(decode_png(http.get(f"{base}/mask").content), painted)
        for wrong in (encode_png(painted[:9]), b"no picture", encode_png(painted)[:60]):
            assert http.put(f"{base}/mask", content=wrong).status_code == 400
        assert http.post("/jobs", json={"command": "decompose", "upload": upload["id"]}).status_code == 400
        thing = http.post("/uploads", params={"name": "a.glb"}, content=SAMPLE.read_bytes()).json()
        assert http.post(f"/uploads/{thing['id']}/cutout").status_code == 400


def test_a_mask_is_what_the_network_sees(tmp_path: Path) -> None:
    picture, mask = np.full((40, 60, 3), 90, np.uint8), np.zeros((40, 60), np.uint8)
    mask[5:35, 2:58] = 255
    (tmp_path / PICTURE).write_bytes(encode_png(picture))
    (tmp_path / MASK).write_bytes(encode_png(mask))
    seen = np.asarray(cut_out(read_picture(Path(masked(tmp_path / "a chair.png", tmp_path / MASK)))))
    rows, columns = np.nonzero(seen[..., 3] >= 128)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (30, 56), "and U^2-Net is not asked"


def test_jobs_are_cancelled_survive_a_killed_process_and_a_killed_server(scratch: Path) -> None:
    results, cache = scratch / "again", scratch / "scratch"
    with Server(results, cache) as first, first.client() as client:
        long = client.submit("decompose", sample="butter", key="once")
        assert client.submit("decompose", sample="butter", key="once")["id"] == long["id"]
        second = client.submit("decompose", sample="butter")
        third = client.submit("decompose", sample="showerDoor")
        _until(client, long, lambda job: job["step"] == "Drawing")
        assert client.job(third)["position"] == 1
        group = [one for one in first.children() if os.getpgid(one.pid) == _heavy(first).pid]
        began = time.monotonic()
        assert client.cancel(long)["state"] == "cancelled"
        psutil.wait_procs(group, timeout=2)
        assert time.monotonic() - began < 2
        assert not [one for one in group if one.is_running()]
        _until(client, second, lambda job: job["step"] is not None)
        killed = _heavy(first)
        killed.send_signal(signal.SIGKILL)
        ended = _until(client, second, lambda job: job["state"] == "failed")
        assert "ended by the signal SIGKILL" in ended["error"]
        _until(client, third, lambda job: job["state"] == "running")
        fourth = client.submit("decompose", sample="showerDoor", options={"parts": 2})
        first.end(signal.SIGKILL)

    with Server(results, cache) as again, again.client() as client:
        states = {one["id"]: (one["state"], one["error"]) for one in raw(again).get("/jobs").json()}
        assert states[long["id"]][0] == "cancelled"
        assert states[second["id"]][0] == "failed"
        assert states[third["id"]] == (
            "failed", "The server was stopped while this was being made; start it again."
        )  # fmt: skip
        made = client.wait(fourth["id"])
        assert len(made["parts"]) == 2
        assert len(client.objects()) == 1
        again.end(signal.SIGINT)
    with Server(results, cache, "--host", "0.0.0.0") as open_one:
        address = open_one.url.replace("0.0.0.0", "127.0.0.1")
        with Client(address.partition("?")[0]) as stranger, pytest.raises(UserError, match="asks for a token"):
            stranger.objects()
        with Client(address) as client:
            assert client.get(made)["parts"] == made["parts"]


def _until(client: Client, job: dict[str, Any], come: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The job once it has come so far."""
    for now in client.events(job):
        if come(now):
            return now
    raise AssertionError(f"it never came so far: {now}")


def _heavy(server: Server) -> psutil.Process:
    """The process that jobs are computed in."""
    found = [one for one in server.children() if one.cmdline()[-1:] == ["jobs"]]
    # What it has just forked, to start Blender, still has its command line.
    (oldest,) = (one for one in found if one.ppid() not in {other.pid for other in found})
    return oldest


def test_the_server_loads_no_models() -> None:
    program = "import sys, pipeline.app.run, stages.app, partgen; partgen.Client; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
