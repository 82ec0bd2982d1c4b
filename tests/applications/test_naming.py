"""Names of parts that nobody has named: by colour and place, and by a vision-language model behind a real server."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.applications.naming import name_parts
from pipeline.assets.names import MAX_NAME_BYTES
from pipeline.captions.backend import NameRequest, Subject
from pipeline.captions.colours import COLOURS
from pipeline.captions.places import place_in_views
from pipeline.captions.plain import PlainBackend
from pipeline.captions.questions import name_question, read_name
from pipeline.captions.smollm2 import NAME
from pipeline.captions.template import plain_name
from pipeline.errors import UserError
from pipeline.params.captions import CaptionsParams
from pipeline.reconstruction.rays import grid_rays
from pipeline.views.cameras import Camera, tile, untile
from tests.captioned import captions_params
from tests.chat_server import ChatServer

SIZE = 48
TOP, LEG, OTHER_LEG, SPECK = 1, 2, 3, 4


def table(colours: dict[int, str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Grid and label map of a table: a brown top, a white leg on the left, one on the right, and a speck of a pixel.

    The legs are seen from the front and, mirrored, from the back; from the sides the one hides the other.
    """
    labels = np.zeros((4, SIZE, SIZE), np.uint8)
    labels[:, 10:16, 6:42] = TOP
    for view, (left, right) in enumerate([(LEG, OTHER_LEG), (OTHER_LEG, OTHER_LEG), (OTHER_LEG, LEG), (LEG, LEG)]):
        labels[view, 16:40, 8:14], labels[view, 16:40, 34:40] = left, right
    labels[0, 12, 20] = SPECK
    named = {TOP: "brown", LEG: "white", OTHER_LEG: "white", SPECK: "black"} | (colours or {})
    rgba = np.zeros((4, SIZE, SIZE, 4), np.uint8)
    for part_id, colour in named.items():
        rgba[labels == part_id] = (*COLOURS[colour], 255)
    rgba[np.arange(4), 11, 20 + np.arange(4)] = (0, 0, 0, 255)  # no two views are the same
    return tile(rgba), tile(labels)


def params_for(server: ChatServer, model: str = "llama-vision") -> CaptionsParams:
    return captions_params(backend="openai", endpoint={"base_url": server.url, "model": model, "retries": 0})


@pytest.mark.slow
def test_describe_tells_colours_and_places_and_no_more(captioner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGEN_SCRATCH", str(captioner))
    grid, labels = table()
    named = name_parts(captions_params(), grid, labels, "a table with two legs")
    assert list(named) == [0, TOP, LEG, OTHER_LEG, SPECK]
    assert named[0].name == "table"
    assert named[TOP].name == "brown top part"
    assert named[LEG].name == "white left part"
    assert named[OTHER_LEG].name == "white right part"
    assert named[SPECK].name == "top part"  # too small to be looked at: nothing is said of its colour
    assert named[SPECK].backend == "template"
    for part_id in (TOP, LEG, OTHER_LEG):
        assert named[part_id].caption.startswith(f"The {named[part_id].name.split()[0]} part ")
        assert named[part_id].caption.endswith(" of a table.")
        assert named[part_id].backend in (NAME, "template")


@pytest.mark.slow
def test_names_are_distinct_and_only_those_asked_for(captioner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGEN_SCRATCH", str(captioner))
    grid, labels = table()
    both = np.where(labels == OTHER_LEG, LEG, labels)  # two legs that are not told apart, and one that is not there
    named = name_parts(captions_params(), grid, both, "", ids=[LEG, TOP, OTHER_LEG, 7])
    assert list(named) == [0, LEG, TOP, OTHER_LEG, 7]
    assert [named[part_id].name for part_id in (LEG, OTHER_LEG, 7)] == ["white part", "part", "part 2"]
    assert named[0].name == "object"


def test_vision_model_names_parts_after_their_captions() -> None:
    def answer(question: str) -> str:
        if "What is it called?" in question:
            return "The Table-Top." if "flat" in question else "leg"
        if "Summarise" in question:
            return "A flat board." if question.count("- A wooden thing.") == 4 else "A straight bar."
        return "A wooden thing."

    grid, labels = table()
    with ChatServer(answer) as server:
        named = name_parts(params_for(server), grid, labels, "Oak table")
        asked = [request["messages"][0]["content"] for request in server.requests]
    pictures = [content for content in asked if isinstance(content, list)]
    assert len(pictures) == 4 + 4 + 3 + 3  # the views in which the object, the top and each leg are in sight
    assert all("which its maker called" not in content[0]["text"] for content in pictures)
    names = [content for content in asked if isinstance(content, str) and "What is it called?" in content]
    assert len(names) == 3  # neither the object, which has a name, nor the speck, which no view shows
    assert named[0].name == "oak table"
    assert (named[TOP].name, named[TOP].caption) == ("table-top", "A flat board.")
    assert [named[part_id].name for part_id in (LEG, OTHER_LEG)] == ["leg", "leg 2"]
    assert named[TOP].backend == "openai/llama-vision"
    assert named[SPECK].name == "top part"


def test_nameless_objects_are_named_by_the_model_too() -> None:
    grid, labels = table()
    with ChatServer(lambda question: "Desk" if "called?" in question else "A desk.") as server:
        named = name_parts(params_for(server), grid, labels, "IMG_2041".replace("IMG_", ""))
    assert named[0].name == "desk"


def test_long_talk_is_no_name_and_a_refusal_does_not_lose_the_result() -> None:
    grid, labels = table()
    with ChatServer(lambda question: "It is hard to say what exactly this could be called") as server:
        named = name_parts(params_for(server), grid, labels, "table")
    assert named[LEG].name == "left part"
    assert named[LEG].backend == "openai/llama-vision"
    with ChatServer(lambda question: "" if "Summarise" in question else "A part.") as server:
        named = name_parts(params_for(server, "another"), grid, labels, "table")
    assert named[LEG].name == "white left part"
    assert named[LEG].backend == "template"


def test_no_answer_at_all_is_one_sentence() -> None:
    grid, labels = table()
    with pytest.raises(UserError, match="gives no answer"):
        name_parts(captions_params(backend="openai", endpoint={"retries": 0}), grid, labels, "table")


@pytest.mark.parametrize(
    ("prompt", "thing"),
    [
        ("a wooden chair with a red cushion", "wooden chair"),
        ("The Oak table", "oak table"),
        ("chest of drawers, painted white", "chest of drawers"),
        ("a knight holding a sword", "knight"),
        ("3.5 inch disk drive", "inch disk drive"),
        ("<b>🪑</b>", "object"),
        ("", "object"),
    ],
)
def test_prompts_become_things(prompt: str, thing: str) -> None:
    grid, labels = table()
    with ChatServer(lambda question: question if "called?" in question else "A white thing.") as server:
        named = name_parts(params_for(server), grid, labels, prompt, ids=[LEG])
        asked = str(server.requests)
    assert f"{thing}. One of its parts, is marked" in asked
    assert len(named[LEG].name.encode()) <= MAX_NAME_BYTES


def test_colour_of_a_name_is_the_first_of_the_caption() -> None:
    part = Subject("table", "", "", "at the bottom front", ())
    assert plain_name(part, "The dark brown and white part of a table.") == "dark brown bottom front part"
    assert plain_name(part, "A light grey part.") == "light grey bottom front part"
    assert plain_name(part, "The reddish part of a brown table.") == "bottom front part"
    assert PlainBackend().names([NameRequest(Subject("", "", None, "", ()), "A red object.")]) == ["object"]


def test_names_in_answers() -> None:
    assert read_name("The Left Arm-Rest.") == "left arm-rest"
    assert read_name("**Seat**") == "seat"
    assert read_name("42") == ""
    assert read_name("a seat or else one of its many cushions") == ""
    request = NameRequest(Subject("Oak table", "", "", "", ()), "A straight white bar.")
    assert "A part of an oak table" in name_question(request)
    assert "A straight white bar." in name_question(request)


def ball_views(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """Which pixels of the four views see a ball, bool (4, V, V)."""
    rays = grid_rays(Camera(40.0, 3.1, SIZE), 20.0)
    towards = rays.origins.new_tensor(centre) - rays.origins
    along = (towards * rays.directions).sum(-1)
    views: np.ndarray = ((towards.square().sum(-1) - along**2) < radius**2).numpy()
    return views


@pytest.mark.parametrize(
    ("centre", "place"),
    [
        ((0.0, 0.0, 0.0), ""),
        ((-0.7, 0.0, 0.0), "on the left"),
        ((0.7, 0.0, 0.0), "on the right"),
        ((0.0, 0.7, 0.0), "at the top"),
        ((0.0, -0.7, 0.0), "at the bottom"),
        ((0.0, 0.0, 0.7), "at the front"),
        ((0.0, 0.0, -0.7), "at the back"),
        ((0.55, -0.6, 0.0), "at the bottom right"),
        ((-0.5, 0.0, 0.6), "at the front left"),
    ],
)
def test_places_in_views_are_those_in_space(centre: tuple[float, float, float], place: str) -> None:
    masks, whole = ball_views(centre, 0.2), ball_views((0.0, 0.0, 0.0), 0.98)
    assert place_in_views(masks, whole) == place
    assert place_in_views(np.zeros_like(masks), whole) == ""
    seen = masks.copy()
    seen[2:] = False  # hidden from two sides
    if place in ("on the left", "on the right", "at the front", "at the back"):
        assert set(place.split()) <= set(place_in_views(seen, whole).split())


def test_masks_of_the_table_are_as_described() -> None:
    _, labels = table()
    maps = untile(labels)
    assert place_in_views(maps == LEG, maps > 0) == "on the left"
    assert place_in_views(maps == TOP, maps > 0) == "at the top"
