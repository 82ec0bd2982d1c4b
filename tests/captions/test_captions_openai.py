"""The OpenAI-compatible backend against a real HTTP server: pictures, retries, rubbish, cache, concurrency."""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.assets.tables import GLBS, OBJECTS, PARTS
from pipeline.captions.backend import Subject, UnifyRequest
from pipeline.captions.endpoint import HOSTS, KEY
from pipeline.captions.object_captions import CaptionTask, caption_object, load_backend, prepare_backend
from pipeline.captions.openai import LARGEST_ANSWER, OpenAIBackend
from pipeline.captions.tables import VIEWS
from pipeline.errors import ObjectFailed, UserError
from pipeline.params.base import validate
from pipeline.params.captions import CaptionsParams
from pipeline.shards.read import iter_rows, read_table
from pipeline.shards.store import checked_table
from pipeline.shards.table import Table, image_cell
from pipeline.shards.write import write_tables
from pipeline.views.mask_tables import LABELS
from pipeline.views.tables import GRIDS
from stages.captions import run
from tests.captioned import SIZE, captions_params, table_task
from tests.chat_server import ChatServer, Fault

ROOT = Path(__file__).parents[2]
SECRET = "sk-proj-0123456789abcdef"
ONE = [UnifyRequest(Subject("Oak table", "Office", "leg", "", ()), ("A leg.",))]
BUSY: Fault = (429, '{"error": {"message": "slow down"}}', {"Retry-After": "0"})


def params_for(server: ChatServer | str, **endpoint: Any) -> CaptionsParams:
    url = server if isinstance(server, str) else server.url
    return captions_params(backend="openai", endpoint={"base_url": url, **endpoint})


def backend_for(server: ChatServer | str, cache: Path, **endpoint: Any) -> OpenAIBackend:
    return OpenAIBackend(params_for(server, **endpoint).endpoint, max_words=25, cache=cache, first_wait_s=0.01)


def caption_task(task: CaptionTask) -> dict[str, list[dict[str, Any]]]:
    """As a fresh worker process would."""
    load_backend.cache_clear()
    return caption_object(task)


def test_the_server_is_sent_the_part_circled_in_red(tmp_path: Path) -> None:
    def answer(question: str) -> str:
        return '"A sturdy\nwhite leg."' if "summarise" in question.lower() else "A white leg."

    with ChatServer(answer) as server:
        rows = caption_task(table_task(tmp_path, params_for(server, concurrency=1)))
    assert len(server.pictures) == 10
    for picture, view in zip(server.pictures, rows["views"], strict=True):
        assert picture.shape == (128, 128, 3)
        red = (picture == (255, 0, 0)).all(axis=2)
        if view["part_id"] == 0:
            assert not red.any()
            continue
        left, right = {(1, 0): (10, 54), (2, 0): (12, 20), (2, 2): (44, 52)}.get(
            (view["part_id"], view["view"]), (10, 54)
        )
        top, bottom = (20, 28) if view["part_id"] == 1 else (28, 50)
        scale = 128 // SIZE
        part = np.zeros_like(red)
        part[top * scale : bottom * scale, left * scale : right * scale] = True
        assert not (red & part).any()
        middle = (top + bottom) * scale // 2, (left + right) * scale // 2
        for line, centre in ((red[middle[0]], middle[1]), (red[:, middle[1]], middle[0])):
            assert line[:centre].any()
            assert line[centre:].any()
    leg = next(row for row in rows["captions"] if row["part_id"] == 2)
    assert (leg["caption"], leg["backend"], leg["views"]) == ("A sturdy white leg.", "openai/llama-vision", 2)
    screw = next(row for row in rows["captions"] if row["part_id"] == 3)
    assert (screw["backend"], screw["views"]) == ("template", 0)
    summaries = [r["messages"][0]["content"] for r in server.requests if isinstance(r["messages"][0]["content"], str)]
    assert len(summaries) == 3
    assert summaries[2].count("- A white leg.") == 2
    questions = [
        r["messages"][0]["content"][0]["text"] for r in server.requests if len(r["messages"][0]["content"]) == 2
    ]
    assert "'leg'" in questions[-1]
    assert "an oak table" in questions[-1]


def test_finished_answers_are_not_asked_again(tmp_path: Path) -> None:
    with ChatServer() as server:
        task = table_task(tmp_path, params_for(server))
        first = caption_task(task)
        asked = len(server.requests)
        assert caption_task(task) == first
        assert len(server.requests) == asked
        caption_task(table_task(tmp_path, params_for(server, model="another")))
        assert len(server.requests) == 2 * asked
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("fault", [(500, "oops", {}), (503, "", {}), BUSY, 0.6])
def test_a_fault_that_passes_is_survived(fault: Fault, tmp_path: Path) -> None:
    with ChatServer() as server:
        server.faults += [fault, fault]
        backend = backend_for(server, tmp_path, retries=2, timeout_s=0.3 if isinstance(fault, float) else 5.0)
        assert backend.unify(ONE)[0].text == "A wooden thing."
        assert len(server.requests) == 3


@pytest.mark.parametrize(("fault", "word"), [((500, "oops", {}), "oops"), (BUSY, "slow down"), (0.6, "within 0.3 s")])
def test_a_fault_that_stays_is_one_sentence(fault: Fault, word: str, tmp_path: Path) -> None:
    with ChatServer() as server:
        server.faults += [fault] * 3
        backend = backend_for(server, tmp_path, retries=2, timeout_s=0.3 if isinstance(fault, float) else 5.0)
        with pytest.raises(UserError, match="gives no answer after 3 tries") as raised:
            backend.unify(ONE)
    assert word in str(raised.value)
    assert server.url in str(raised.value)
    assert len(server.requests) == 3


def test_wrong_key_model_or_address_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    with ChatServer() as server:
        server.faults.append((401, "bad key", {}))
        with pytest.raises(UserError, match="status 401: 'bad key'"):
            backend_for(server, tmp_path).unify(ONE)
        assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
        monkeypatch.delenv(KEY)
        with pytest.raises(UserError, match="status 404"):
            backend_for(server.url + "/v2", tmp_path).unify(ONE)
        assert "Authorization" not in server.headers[1]
        assert len(server.requests) == 2
    for url in ("localhost:8000/v1", "ftp://localhost/v1", "http://localhost:port/v1", ""):
        with pytest.raises(UserError, match="base_url"):
            backend_for(url, tmp_path)


@pytest.mark.parametrize(
    "body",
    [f"wrong: {SECRET}", f'{{"error": "no user of {SECRET} here"}}', f"cut: {SECRET[:12]}", f"{'x' * 390}{SECRET}"],
)
def test_a_key_that_the_endpoint_echoes_is_not_shown(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    with ChatServer() as server:
        server.faults += [(401, body, {}), (200, body, {}), (500, body, {})]
        for _ in range(3):
            with pytest.raises(UserError) as raised:
                backend_for(server, tmp_path, retries=0).unify(ONE)
            assert SECRET[:8] not in str(raised.value)
        server.answer = lambda question: f"A chair of {SECRET}."
        with pytest.raises(ObjectFailed, match="answered with the API key") as failed:
            backend_for(server, tmp_path).unify(ONE)
        assert SECRET[:8] not in str(failed.value)
    assert not list(tmp_path.rglob("*.json"))
    monkeypatch.setenv(KEY, f"{SECRET} {SECRET}")
    with pytest.raises(UserError, match=f"{KEY} holds characters") as raised:
        backend_for("http://localhost/v1", tmp_path)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://evil.example/v1", "evil.example:80"),
        ("https://evil.example/v1", "evil.example:443"),
        ("http://localhost.evil.example:8000/v1", "localhost.evil.example:8000"),
        ("http://0.0.0.0:8000/v1", "0.0.0.0:8000"),
        ("http://2130706433/v1", "2130706433:80"),
        ("http://[2001:db8::1]:8000/v1", "[2001:db8::1]:8000"),
    ],
)
def test_only_this_machine_is_asked_unless_the_environment_names_another(
    url: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    with pytest.raises(UserError, match="this machine alone is allowed") as raised:
        prepare_backend(params_for(url), tmp_path)
    assert f"export {HOSTS}={host} in" in str(raised.value)
    with pytest.raises(UserError, match=re.escape(host)):
        backend_for(url, tmp_path)
    monkeypatch.setenv(HOSTS, f"other.example, {host}")
    assert backend_for(url, tmp_path).access.key == SECRET
    with pytest.raises(UserError, match="alone"):
        backend_for("http://127.0.0.1:8000/v1", tmp_path)  # which a named list leaves out


@pytest.mark.parametrize("url", ["http://127.0.0.2:8000/v1", "http://localhost/v1", "http://[::1]:8000/v1"])
def test_all_that_is_this_machine_is_allowed(url: str, tmp_path: Path) -> None:
    assert backend_for(url, tmp_path).access.url == f"{url}/chat/completions"


@pytest.mark.parametrize(
    "url", ["http://me:pa55word@localhost/v1", "http://me:pa55word@[x/v1", "http://localhost/v1?key=pa55word&x="]
)
def test_passwords_in_the_url_are_refused_and_not_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="base_url") as raised:
        prepare_backend(params_for(url), tmp_path)
    assert "pa55word" not in str(raised.value)


def test_the_key_goes_along_with_no_redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    with ChatServer() as server, ChatServer() as other:
        monkeypatch.setenv(HOSTS, server.url.split("/")[2])
        server.faults.append((307, "", {"Location": f"{other.url}/chat/completions"}))
        with pytest.raises(UserError, match="status 307"):
            backend_for(server, tmp_path).unify(ONE)
        with pytest.raises(UserError, match="alone"):
            backend_for(other, tmp_path)
        monkeypatch.delenv(HOSTS)
        monkeypatch.setenv("HTTP_PROXY", other.url.removesuffix("/v1"))
        assert backend_for(server, tmp_path).unify(ONE)
        assert not other.requests, "neither a redirect nor a proxy gets what is for this machine"


def test_a_key_of_older_params_is_explained() -> None:
    values = captions_params().model_dump()
    values["endpoint"]["api_key_env"] = "HOME"
    with pytest.raises(UserError, match=r"no key `endpoint.api_key_env` any more; .* export the key as PARTGEN_CAP"):
        validate(CaptionsParams, values, "params.yaml: captions")


@pytest.mark.slow
def test_an_answer_that_trickles_in_has_an_end(tmp_path: Path) -> None:
    """Each byte comes in time, and the whole would take a minute; in the headers, and in the body."""
    for start in (b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n"):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def drip(listener: socket.socket = listener, start: bytes = start) -> None:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(start)
                    for _ in range(600):
                        connection.sendall(b"x")
                        time.sleep(0.1)

            threading.Thread(target=drip, daemon=True).start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            began = time.monotonic()
            with pytest.raises(UserError, match=r"no whole answer within 0\.5 s"):
                backend_for(url, tmp_path, retries=0, timeout_s=0.5).unify(ONE)
            assert time.monotonic() - began < 5


def test_an_endless_answer_is_cut(tmp_path: Path) -> None:
    with ChatServer() as server:
        server.faults.append((200, '{"choices": "' + "x" * (LARGEST_ANSWER + 9) + '"}', {}))
        with pytest.raises(UserError, match="no chat completion"):
            backend_for(server, tmp_path).unify(ONE)


@pytest.mark.parametrize(
    "damage", [b"", b"\x00\xff", b"[" * 99999, b"[]", b'{"caption": 7}', b'{"caption": ""}', b'{"caption": "\\ud800"}']
)
def test_a_damaged_answer_in_the_cache_is_asked_for_anew(damage: bytes, tmp_path: Path) -> None:
    with ChatServer() as server:
        first = backend_for(server, tmp_path).unify(ONE)
        (path,) = tmp_path.rglob("*.json")
        path.write_bytes(damage)
        assert backend_for(server, tmp_path).unify(ONE) == first
        assert len(server.requests) == 2
        assert backend_for(server, tmp_path).unify(ONE) == first
        assert len(server.requests) == 2


def test_half_a_character_is_written_as_the_sign_for_one(tmp_path: Path) -> None:
    with ChatServer(lambda question: "A \ud83d\ude00 leg \ud800.") as server:
        rows = caption_task(table_task(tmp_path, params_for(server)))
    assert {row["caption"] for row in rows["views"]} == {"A \N{GRINNING FACE} leg \N{REPLACEMENT CHARACTER}."}
    checked_table(rows["views"], VIEWS.storage_schema(), "views")


def test_a_running_event_loop_is_no_hindrance(tmp_path: Path) -> None:
    async def notebook() -> str:
        return backend_for(server, tmp_path).unify(ONE)[0].text

    with ChatServer() as server:
        assert asyncio.run(notebook()) == "A wooden thing."


@pytest.mark.parametrize(
    "body", ["<html>Welcome to nginx</html>", "[]", "{}", '{"choices": []}', '{"choices": [{"message": 3}]}', ""]
)
def test_what_is_no_chat_completion_names_the_endpoint(body: str, tmp_path: Path) -> None:
    with ChatServer() as server:
        server.faults.append((200, body, {}))
        with pytest.raises(UserError, match="no chat completion") as raised:
            backend_for(server, tmp_path).unify(ONE)
    assert server.url in str(raised.value)
    assert body[:20] in str(raised.value)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("answer", ["", "  \n", "...", None, 7, "word " * 200])
def test_useless_answers_are_the_objects_failure(answer: Any, tmp_path: Path) -> None:
    with ChatServer(lambda question: answer) as server:
        with pytest.raises(ObjectFailed, match=r"empty answer|answered with 200 words") as raised:
            backend_for(server, tmp_path).unify(ONE)
        assert server.url in str(raised.value)
        server.answer = lambda question: "A leg."
        assert backend_for(server, tmp_path).unify(ONE)[0].text == "A leg."  # rubbish was not kept


def test_refusals_are_the_objects_failure(tmp_path: Path) -> None:
    message = {"content": None, "refusal": "I cannot help with that."}
    with ChatServer() as server:
        server.faults.append((200, json.dumps({"choices": [{"message": message}]}), {}))
        with pytest.raises(ObjectFailed, match="refused: 'I cannot help"):
            backend_for(server, tmp_path).unify(ONE)


def test_concurrency_is_used_and_bounded(tmp_path: Path) -> None:
    requests = [UnifyRequest(ONE[0].subject, (f"Leg {number}.",)) for number in range(12)]
    with ChatServer(seconds=0.1) as server:
        assert len(backend_for(server, tmp_path, concurrency=3).unify(requests)) == 12
    assert server.most_under_way == 3


def write_data(data: Path, count: int) -> None:
    """The tables before this stage, of `count` objects."""
    rows: dict[str, list[dict[str, Any]]] = {"objects": [], "parts": [], "glbs": [], "grids": [], "labels": []}
    for number in range(count):
        task = table_task(data, captions_params())
        identity = {"object_id": f"table{number}", "split": "train"}
        blank = {field.name: None for field in OBJECTS.schema}
        rows["objects"].append(
            {**blank, **identity, "name": f"Table of kind {'abcdef'[number] * 3}", "category": "Office"}
        )
        blank = {field.name: None for field in PARTS.schema}
        rows["parts"] += [{**blank, **identity, "part_id": part_id, "name": name} for part_id, name in task.names.parts]
        rows["glbs"].append({**identity, "glb": task.glb})
        rows["grids"].append({**identity, "part_id": 0, "image": image_cell(task.grid, "grid.png")})
        rows["labels"].append({**identity, "labels": image_cell(task.labels, "labels.png"), "silhouette_iou": 1.0})

    def write(out: str, *tables: Table) -> None:
        contents = {table.name: checked_table(rows[table.name], table.storage_schema(), table.name) for table in tables}
        write_tables(data / out, tables, [(0, contents)], {"shards": 2})

    write("assets", OBJECTS, PARTS, GLBS)
    write("renders", GRIDS)
    write("masks", LABELS)


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_a_stopped_stage_sends_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PARTGEN_WORKERS", "1")
    write_data(tmp_path / "data", 3)
    with ChatServer() as server:
        params = params_for(server, retries=0, concurrency=1)
        server.faults += [0.0] * 20 + [(500, "out of memory", {})]  # an object takes 13 requests
        with pytest.raises(UserError, match="out of memory"):
            run(params)
        assert not (tmp_path / "data/captions").exists()
        assert 21 <= len(server.requests) < 3 * 13  # the worker may have begun another object
        run(params)
        asked = len(server.requests)
        assert asked <= 3 * 13 + 2  # again: the one that failed, and one whose answer was on its way
        captions = read_table(tmp_path / "data/captions/captions").to_pylist()
        assert sorted((row["object_id"], row["part_id"]) for row in captions) == [
            (f"table{n}", k) for n in range(3) for k in range(4)
        ]
        assert len(list(iter_rows(tmp_path / "data/captions/views"))) == 30
        run(params)
        assert len(server.requests) == asked
    metrics = json.loads(Path("metrics/captions.json").read_text())
    assert metrics["captions"] == {"openai/llama-vision": 9, "template": 3}
    assert metrics["seen_in_no_view"] == 3


@pytest.mark.slow
def test_endpoint_that_is_down_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    write_data(tmp_path / "data", 1)
    params = params_for("http://127.0.0.1:9/v1", retries=0)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"captions": params.model_dump()}))
    done = subprocess.run(
        [sys.executable, "-m", "stages.captions"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "partgen: The endpoint http://127.0.0.1:9/v1/chat/completions gives no answer after 1 tries ("
    )
    assert "Traceback" not in done.stderr
