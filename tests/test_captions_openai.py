"""The OpenAI-compatible backend against a real HTTP server: pictures, retries, rubbish, cache, concurrency."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.assets.tables import GLBS, OBJECTS, PARTS
from pipeline.captions.backend import Subject, UnifyRequest
from pipeline.captions.object_captions import CaptionTask, caption_object, load_backend
from pipeline.captions.openai import OpenAIBackend
from pipeline.errors import ObjectFailed, UserError
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

ROOT = Path(__file__).parents[1]
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


@pytest.mark.parametrize(("fault", "word"), [((500, "oops", {}), "oops"), (BUSY, "slow down"), (0.6, "ReadTimeout")])
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
    monkeypatch.setenv("TEST_KEY", "s3cret")
    with ChatServer() as server:
        server.faults.append((401, "bad key", {}))
        backend = backend_for(server, tmp_path, api_key_env="TEST_KEY")
        with pytest.raises(UserError, match="status 401: 'bad key'") as raised:
            backend.unify(ONE)
        assert "s3cret" not in str(raised.value)
        assert server.headers[0]["Authorization"] == "Bearer s3cret"
        with pytest.raises(UserError, match="status 404"):
            backend_for(server.url + "/v2", tmp_path).unify(ONE)
        assert len(server.requests) == 2
        monkeypatch.delenv("TEST_KEY")
        with pytest.raises(UserError, match="TEST_KEY, which is not set"):
            backend_for(server, tmp_path, api_key_env="TEST_KEY")
    for url in ("localhost:8000/v1", "ftp://localhost/v1", "http://localhost:port/v1", ""):
        with pytest.raises(UserError, match="base_url"):
            backend_for(url, tmp_path).unify(ONE)


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
