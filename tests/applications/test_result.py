"""The folder of an object in parts: written whole or not at all, never over another, read back as it was."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.applications.diagnostics import Diagnostic
from pipeline.applications.part import Part, Segmentation
from pipeline.applications.result import PartObject
from pipeline.errors import UserError
from pipeline.folders import file_name, next_free
from pipeline.reconstruction.field import Decoder, Field

ROOT = Path(__file__).parents[2]
SIDE = 4
NAMES = ("seat", "Leg / left 🪑")


def a_part(label: int, name: str, glb: bytes | None) -> Part:
    torch.manual_seed(label)
    field = Field(torch.randn(2, 3, 3, 3), Decoder(2, 4, 1).requires_grad_(False)).placed((label, 0, 0.5), 0.25)
    grid = np.full((SIDE, SIDE, 3), 40 * label, np.uint8)
    absent = "" if glb else "The part's field is empty."
    return Part(label, name, f"The {name}.", 0.5 * label, grid, field, glb, 12 if glb else 0, absent)


def an_object() -> PartObject:
    labels = np.array([[0, 1, 1, 2]] * SIDE, np.uint8)
    return PartObject(
        name="chair",
        caption="A chair.",
        grid=np.dstack([np.full((SIDE, SIDE, 3), 9, np.uint8), (labels > 0).astype(np.uint8) * 255]),
        labels=labels,
        parts=[a_part(1, NAMES[0], b"glb of the seat"), a_part(2, NAMES[1], None)],
        segmentations=[Segmentation(labels, 0.75, 3), Segmentation(labels.clip(max=1), 0.5, 0)],
        merged=2,
        glb=b"glb of all",
        animations={"turntable.gif": b"gif", "exploded.gif": b"another gif"},
        overlap={"mean_iou": 0.25, "max_iou": 0.5, "contested": 0.0},
        diagnostics=[Diagnostic("merged", None, 2.0, "Two parts were merged.")],
        notice="“Chair” by Ünal",
        origin={"kind": "text", "prompt": "a chair"},
        seed=7,
        models={"segment": "abc"},
        settings={"cameras": {"view_size": 2}},
        history=[{"command": "from-text", "seed": 7}],
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    saved = an_object().save(tmp_path / "new" / "chair")
    loaded = PartObject.load(saved)
    assert files(loaded.save(tmp_path / "again")) == files(saved)
    assert [part.name for part in loaded.parts] == list(NAMES)
    first, second = (part.field for part in loaded.parts[:2])
    assert first
    assert second
    assert second.offset_3 == (2.0, 0.0, 0.5)
    assert loaded.parts[1].glb is None
    assert loaded.diagnostics == an_object().diagnostics
    np.testing.assert_array_equal(loaded.labels, an_object().labels)
    before = an_object().parts[0].field
    assert before
    assert torch.equal(first.volume_CDHW, before.volume_CDHW)


def test_the_picture_is_kept_and_results_from_before_it_was_are_read(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (9, 9, 4), dtype=np.uint8)
    folder = replace(an_object(), picture=picture).save(tmp_path / "chair")
    np.testing.assert_array_equal(PartObject.load(folder).picture, picture)
    (folder / "input.png").unlink()
    with pytest.raises(UserError, match=r"input\.png is missing"):
        PartObject.load(folder)
    old = an_object().save(tmp_path / "old")
    values = json.loads((old / "result.json").read_text())
    del values["picture"]
    (old / "result.json").write_text(json.dumps(values))
    (old / "SHA256SUMS").unlink()
    assert PartObject.load(old).picture is None


def test_the_folder(tmp_path: Path) -> None:
    folder = an_object().save(tmp_path / "chair")
    assert sorted(files(folder)) == [
        "SHA256SUMS",
        "exploded.gif",
        "fields/01.safetensors",
        "fields/02.safetensors",
        "grid.png",
        "labels.png",
        "object.glb",
        "parts/01-seat.glb",
        "parts/01-seat.png",
        "parts/02-leg-left.png",
        "result.json",
        "segmentations/1.png",
        "segmentations/2.png",
        "turntable.gif",
    ]
    assert Image.open(folder / "labels.png").mode == "P"
    values = json.loads((folder / "result.json").read_text())
    assert (values["format"], values["version"]) == ("partgen-result", 2)
    seat, leg = values["parts"]
    assert (seat["pixels"], seat["score"], seat["glb"]) == (8, 0.5, "parts/01-seat.glb")
    assert (leg["glb"], leg["absent"]) == (None, "The part's field is empty.")
    assert leg["placement"] == {"offset": [2.0, 0.0, 0.5], "scale": 0.25}
    assert (values["seed"], values["notice"], values["merged"]) == (7, "“Chair” by Ünal", 2)
    assert values["segmentations"][1] == {"file": "segmentations/2.png", "run": 0, "score": 0.5}


def test_animations_come_last_and_make_the_folder_what_it_would_have_been(tmp_path: Path) -> None:
    whole = an_object()
    folder = replace(whole, animations={}).save(tmp_path / "without")
    assert not {"turntable.gif", "exploded.gif"} & set(files(folder))
    assert PartObject.load(folder).animations == {}
    whole.save_animations(folder)
    assert PartObject.load(folder).animations == whole.animations
    assert files(folder) == files(whole.save(tmp_path / "whole"))


def test_results_from_before_there_were_frames_are_read_and_a_frame_that_is_none_is_not(tmp_path: Path) -> None:
    assert "frame" not in an_object().settings
    PartObject.load(an_object().save(tmp_path / "old"))
    framed = {**an_object().settings, "frame": "file"}
    origin = {"kind": "object", "file": "chair.obj", "from_file": np.diag([2.0, 2, 2, 1]).tolist()}
    there = replace(an_object(), settings=framed, origin=origin)
    assert PartObject.load(there.save(tmp_path / "there")).origin == origin
    for number, matrix in enumerate(([[0.0] * 4] * 4, [[1.0]], "none")):
        broken = replace(there, origin={**origin, "from_file": matrix})
        with pytest.raises(UserError, match="no whole result"):
            PartObject.load(broken.save(tmp_path / str(number)))
    with pytest.raises(UserError, match="from_file"):
        PartObject.load(replace(there, origin={"kind": "text", "prompt": "a chair"}).save(tmp_path / "text"))


def test_nothing_is_overwritten_and_nothing_left_half(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    an_object().save(taken)  # an empty folder is as good as none
    before = files(taken)
    with pytest.raises(UserError, match=r"taken is there already .*--out"):
        an_object().save(taken)
    assert files(taken) == before
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is there already"):
        an_object().save(tmp_path / "file")
    broken = replace(an_object(), history=[{"seed": object()}])
    with pytest.raises(TypeError):
        broken.save(tmp_path / "broken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken"]


def test_an_object_without_any_surface(tmp_path: Path) -> None:
    bare = replace(an_object(), parts=[a_part(1, "seat", None)], glb=None)
    folder = bare.save(tmp_path / "bare")
    assert not (folder / "object.glb").exists()
    assert PartObject.load(folder).glb is None


def test_parts_are_found_by_name_and_number() -> None:
    chair = an_object()
    assert chair.part("SEAT").label == 1
    assert chair.part("2").name == NAMES[1]
    with pytest.raises(
        UserError, match=r"no part `set` \(did you mean `seat`\?\) in chair; its parts are 1 seat, 2 Leg"
    ):
        chair.part("set")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no result"),
        ("no json", "no result of this program"),
        ("[]", "no result of this program"),
        ('{"format": "partgen-result"}', "no result of this program"),
        ('{"format": "partgen-result", "version": 3}', "partgen-result 3, and this program reads partgen-result 2"),
        ('{"format": "scene", "version": 1}', "of the format scene 1"),
        ('{"format": "partgen-result", "version": 1, "parts": 3}', "no whole result"),
    ],
)
def test_other_folders_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    folder = an_object().save(tmp_path / "chair")
    for name in ("SHA256SUMS", "result.json"):
        (folder / name).unlink()
    if content is not None:
        (folder / "result.json").write_text(content)
    with pytest.raises(UserError, match=message):
        PartObject.load(folder)


@pytest.mark.parametrize("name", ["grid.png", "object.glb", "parts/01-seat.glb", "fields/02.safetensors"])
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, name: str) -> None:
    folder = an_object().save(tmp_path / "chair")
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        PartObject.load(folder)


DAMAGED = ("grid.png", "object.glb", "parts/01-seat.glb", "fields/02.safetensors", "result.json", "turntable.gif")


@pytest.mark.parametrize("name", DAMAGED)
def test_a_bit_that_flipped_is_noticed(tmp_path: Path, name: str) -> None:
    folder = an_object().save(tmp_path / "chair")
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 4
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} is damaged|result\.json is no result"):
        PartObject.load(folder)


@pytest.mark.parametrize("name", ["grid.png", "object.glb", "fields/01.safetensors", "turntable.gif", "result.json"])
@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"\x89PNG\r\n\x1a\n", b"[" * 99_999, b'{"a": {}}', None])
def test_rubbish_in_a_folder_without_checksums_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    folder = an_object().save(tmp_path / "chair")
    for file in ("SHA256SUMS", name):
        (folder / file).unlink()
    (folder / name).mkdir() if content is None else (folder / name).write_bytes(content)
    if name in ("object.glb", "turntable.gif") and content is not None:
        PartObject.load(folder)  # its content is handed on as it is
    else:
        with pytest.raises(UserError, match=r"no whole result|is no field|is no result|is no file"):
            PartObject.load(folder)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("name", ["grid.png", "object.glb", "fields/01.safetensors", "result.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str, checked: bool) -> None:
    folder = an_object().save(tmp_path / "chair")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    if not checked:
        (folder / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match=name):
        PartObject.load(folder)


@pytest.mark.slow
def test_what_a_killed_save_left_goes_with_the_next(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tests.applications.test_result import an_object
from pipeline.applications import result_folder
result_folder.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
an_object().save(Path({str(tmp_path)!r}) / "chair")
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    an_object().save(tmp_path / "chair")
    assert [path.name for path in tmp_path.iterdir()] == ["chair"]


def test_a_name_in_the_file_leads_to_no_file_elsewhere(tmp_path: Path) -> None:
    folder = an_object().save(tmp_path / "chair")
    values = json.loads((folder / "result.json").read_text())
    values["parts"][0] |= {"name": "../../secret", "grid": "../../secret.png"}
    (folder / "result.json").write_text(json.dumps(values))
    (folder / "SHA256SUMS").unlink()
    (tmp_path.parent / "secret.png").write_bytes((folder / "grid.png").read_bytes())
    with pytest.raises(UserError, match=r"parts/01-secret\.png is missing"):
        PartObject.load(folder)


def test_folders_are_numbered_on(tmp_path: Path) -> None:
    assert next_free(tmp_path / "chair").name == "chair-2"
    (tmp_path / "chair-2").mkdir()
    assert next_free(tmp_path / "chair").name == "chair-3"
    assert next_free(tmp_path / "chair-2").name == "chair-3"
    assert next_free(tmp_path / "arm-chair").name == "arm-chair-2"


def test_names_as_files() -> None:
    assert file_name("Leg / left") == "leg-left"
    assert file_name("../..") == "part"
    assert file_name("стул") == "стул"
    assert len(file_name("ü" * 100).encode()) <= 40
