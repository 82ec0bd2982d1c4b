"""The report: its texts, and its page opened from disk in a real browser."""

import contextlib
import hashlib
import io
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from pipeline.errors import UserError
from pipeline.heldout.reconstruct_tables import OBJECTS
from pipeline.params.report import ReportParams
from pipeline.report.charts import HEIGHT, WIDTH, chart, round_ticks, thinned
from pipeline.shards.read import iter_rows
from stages.report import run
from tests.toy_report import HOSTILE, put

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SOFTWARE_WEBGL = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PARAMS = ReportParams(objects=10)


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The stage writes its metrics where it runs."""
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        yield


@pytest.fixture(scope="module")
def project(toy_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(toy_project, tmp_path_factory.mktemp("project"), dirs_exist_ok=True)


@pytest.fixture(scope="module")
def page_file(project: Path) -> Path:
    return run(PARAMS, project / "data")


class Html(HTMLParser):
    """Tags, attributes and text of a page, as a browser finds them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.alts: list[str | None] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            self.alts.append(dict(attrs)["alt"])

    def handle_data(self, data: str) -> None:
        self.text += data


def test_texts_of_others_are_escaped_and_links_stay_in_the_folder(page_file: Path) -> None:
    page = Html(page_file)
    assert page.tags.count("script") == 2  # the page's own
    assert f"{HOSTILE} toy" in page.text
    assert f"A. {HOSTILE}" in page.text
    assert f"CC0-1.0 {HOSTILE}" in page.text
    assert f"no words {HOSTILE}" in page.text
    assert f"“a toy {HOSTILE}”" in page.text
    assert None not in page.alts
    for link in page.links:
        assert link.startswith("#") or (page_file.parent / link).is_file(), link


def test_sections_come_in_their_order_with_figures_and_reasons(page_file: Path) -> None:
    text = " ".join(Html(page_file).text.split())
    marks = [
        "Gallery", "2 held-out objects, best first", "As modelled", "2 parts, IoU 80 %", "plain toy",
        "3 parts, IoU 75 %", "What this run is", "2 real 3D objects with 5 parts",
        "no model looks at the circled pictures", "1,234,567", "after weights/toy", "Tables",
        "10 runs of the segmentation help: +1.0 [1.0, 1.0] IoU", "Table 1", "45.7", "45.2 / 32.9", "Table 2", "exact",
        "21.25", "21.25 to 21.25", "and 25.0% exact", "Table 3", "0.065 / 20.33", "0.875", "Parts of 3D objects",
        "90.5", "minus the model alone", "with caps", "0.0312", "not measured", "Objects that fail", "0.250",
        "score, then area", "Where it fails", "(a) views disagree, drawn from one view: 2 of 2 objects",
        "toy-000: outlines, IoU 0.25", "Drawn", "(b) true parts grouped", "toy-001: parts grouped, share 0.75",
        "Regions", "(c) depth, whole at once: 2 of 2 objects", "Reconstructed", "Automatic, IoU > 0.5", "Losses",
        "Texts", "the closest of this run’s 1 training objects", "“a toy <img", "Drawn", "Closest training object",
        "trained toy, ST-LPIPS",
        "Objects", "captions failed with it", "run 1, 2 parts", "On its own surface", "Fused into one skin first",
        "Predicted parts, completed", "from 7 px in sight", "Run 2", "From the caption", "Closest training object",
        "ST-LPIPS 0.", "From that view", "Closest training object", "plain toy",
        "Failures", "single part", "Licences and authors", "trained toy", "T.",
    ]  # fmt: skip
    place = 0
    for mark in marks:
        place = text.find(mark, place)
        assert place >= 0, mark


def test_the_same_inputs_give_the_same_bytes(project: Path, page_file: Path) -> None:
    def digests() -> dict[str, str]:
        files = sorted(path for path in page_file.parent.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = digests()
    assert len(before) > 20
    assert run(PARAMS, project / "data") == page_file
    assert digests() == before


def test_objects_beyond_the_limit_are_counted(toy_project: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_project, tmp_path, dirs_exist_ok=True)
    page = Html(run(ReportParams(objects=1), tmp_path / "data"))
    assert page.tags.count("article") == 1
    assert "1 more is in the tables below and not shown" in " ".join(page.text.split())
    assert "plain toy" not in page.text


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        ("data/assets/objects", "assets"),
        ("data/generations/grids", "generate"),
        ("data/generations/prompts", "generate"),
        ("data/segmentations/parts", "segment"),
        ("data/completions/grids", "complete"),
        ("data/reconstructions/objects", "reconstruct"),
        ("data/reconstructions/failures", "reconstruct"),
        ("data/atoms/surfaces", "atoms"),
        ("data/evaluation/divisions", "evaluate"),
        ("metrics/evaluate.json", "evaluate"),
        ("plots/train/edit.csv", "train@edit"),
        ("metrics/train/lrm.json", "train_lrm"),
    ],
)
def test_what_is_missing_names_its_stage_and_the_old_report_stays(
    project: Path, page_file: Path, tmp_path: Path, missing: str, stage: str
) -> None:
    aside = tmp_path / "aside"
    (project / missing).rename(aside)
    try:
        with pytest.raises(UserError, match=rf"{missing} is not there yet; run the stage {stage} ") as error:
            run(PARAMS, project / "data")
    finally:
        aside.rename(project / missing)
    assert "\n" not in str(error.value)
    assert page_file.is_file()


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60), st.integers(1, 20))
def test_thinning_keeps_the_mean_and_the_order(losses: list[float], most: int) -> None:
    points = list(enumerate(losses))
    few = thinned(points, most)
    assert len(few) <= most
    assert [x for x, _ in few] == sorted(x for x, _ in few)
    assert min(losses) * (1 - 1e-9) <= min(y for _, y in few)
    assert max(y for _, y in few) <= max(losses) * (1 + 1e-9)
    if len(losses) % len(few) == 0:
        assert np.mean([y for _, y in few]) == pytest.approx(np.mean(losses))


@given(st.floats(1, 1e6), st.integers(2, 8))
def test_ticks_are_round_and_within_the_axis(end: float, count: int) -> None:
    ticks = round_ticks(end, count)
    assert ticks[0] == 0
    assert ticks[-1] <= end
    assert 1 < len(ticks) <= count + 1
    assert f"{ticks[1]:e}"[0] in "125"


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(1e-5, 1e3)), min_size=1, max_size=30))
def test_lines_stay_within_the_chart(points: list[tuple[float, float]]) -> None:
    ends = (min(y for _, y in points) * 0.8, max(y for _, y in points) * 1.25)
    drawn = chart("loss", ("step", "loss"), {"loss": sorted(points)}, [0], ends, "log")
    for pair in drawn.lines[0].points.split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


@pytest.fixture(scope="module")
def browser_page(page_file: Path) -> Iterator[tuple[Page, list[str]]]:
    """The page, opened from disk, and what went wrong in it."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"there is no Chromium here ({', '.join(BROWSERS)}) to open the page in")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(SOFTWARE_WEBGL))
        page = browser.new_page(viewport={"width": 800, "height": 600})
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(request.url))
        page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
        page.goto(page_file.as_uri())
        yield page, wrong
        browser.close()


def viewer_with(page: Page, model: str) -> Locator:
    """The 3D view of the first object with one of its models."""
    viewer = page.locator("#view-1")
    viewer.scroll_into_view_if_needed()
    viewer.get_by_label(model).check()
    page.wait_for_selector("#view-1[data-state=ready]")
    viewer.get_by_role("button", name="Reset view").click()
    return viewer


def picture(viewer: Locator) -> np.ndarray:
    """What is seen of the canvas, (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(viewer.locator("canvas").screenshot())).convert("RGB"))


def changed(viewer: Locator, act: Callable[[], object]) -> float:
    """The share of pixels that differ after `act`."""
    before = picture(viewer)
    act()
    return float((picture(viewer) != before).any(axis=-1).mean())


def places(page: Page) -> np.ndarray:
    """Where the parts of the first object are, (S, 3)."""
    return np.array(page.evaluate("partgen.views.get('view-1').parts.map((part) => part.object.position.toArray())"))


def test_the_object_is_drawn_and_nothing_goes_wrong(browser_page: tuple[Page, list[str]]) -> None:
    page, wrong = browser_page
    viewer = viewer_with(page, "True object")
    pixels = picture(viewer)
    background = pixels[20, 20].astype(int)
    assert (np.abs(pixels - background).max(axis=-1) > 10).mean() > 0.02
    for model in ("from true parts, as rendered", "from true parts, completed", "reconstructed at once"):
        viewer_with(page, model)
    assert page.locator("article").count() == 2
    assert page.evaluate("window.hit") is None
    assert not wrong


def test_the_slider_pulls_parts_apart_and_the_list_hides_them(browser_page: tuple[Page, list[str]]) -> None:
    page, _ = browser_page
    viewer = viewer_with(page, "True object")
    assert np.abs(places(page)).max() == 0
    slider = viewer.get_by_label("Pull apart")
    assert changed(viewer, lambda: slider.fill("1")) > 0.01
    away = places(page)
    assert np.linalg.norm(away, axis=1).max() == pytest.approx(0.9, abs=1e-3)
    assert np.linalg.norm(away[0] - away[1]) > 0.9
    slider.focus()
    page.keyboard.press("Home")
    assert np.abs(places(page)).max() == 0

    boxes = viewer.locator(".parts").get_by_role("checkbox")
    assert boxes.count() == 2
    assert viewer.locator(".parts li").first.inner_text() == f"{HOSTILE} 1"
    assert changed(viewer, boxes.first.uncheck) > 0.005
    assert changed(viewer, boxes.last.uncheck) > 0.005
    assert len(np.unique(picture(viewer)[20:-20, 20:-20].reshape(-1, 3), axis=0)) == 1  # nothing is left
    boxes.first.check()
    boxes.last.check()
    assert changed(viewer, viewer.get_by_label("Colour by part").check) > 0.005
    viewer.get_by_label("Colour by part").uncheck()
    assert page.evaluate("window.hit") is None


def test_the_part_under_the_pointer_is_named(browser_page: tuple[Page, list[str]]) -> None:
    page, wrong = browser_page
    viewer = viewer_with(page, "Taken apart on its own surface")
    viewer.locator("canvas").scroll_into_view_if_needed()
    box = viewer.locator("canvas").bounding_box()
    assert box is not None
    found = set()
    for across in range(20, 81, 5):
        page.mouse.move(box["x"] + box["width"] * across / 100, box["y"] + box["height"] / 2)
        if viewer.locator(".hover").is_visible():
            found.add(viewer.locator(".hover").inner_text())
            assert viewer.locator(".parts .pointed").inner_text() == viewer.locator(".hover").inner_text()
    assert found == {f"{HOSTILE} 1", f"{HOSTILE} 2"}
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    assert not viewer.locator(".hover").is_visible()
    assert not wrong


def test_keys_and_the_mouse_turn_the_object(browser_page: tuple[Page, list[str]]) -> None:
    page, _ = browser_page
    viewer = viewer_with(page, "True object")
    canvas = viewer.locator("canvas")
    canvas.focus()
    for key in ("ArrowLeft", "ArrowUp", "+"):
        assert changed(viewer, partial(page.keyboard.press, key)) > 0.005, key
    box = canvas.bounding_box()
    assert box is not None

    def drag() -> None:
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 200, box["y"] + 120)
        page.mouse.up()

    assert changed(viewer, drag) > 0.005
    assert changed(viewer, viewer.get_by_role("button", name="Reset view").click) > 0.005


def test_a_model_that_is_not_there_says_why(browser_page: tuple[Page, list[str]]) -> None:
    page, _ = browser_page
    choice = page.locator("#view-1").get_by_label("Assembled from predicted parts")
    assert choice.is_disabled()
    assert "no part of it has a surface" in page.locator("#view-1").inner_text()


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(
    browser_page: tuple[Page, list[str]], width: int, scheme: Literal["light", "dark"]
) -> None:
    page, _ = browser_page
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (np.mean([int(value) for value in background[4:-1].split(",")]) < 60) == (scheme == "dark")


def test_an_object_that_was_not_reconstructed_is_shown_without_models(toy_project: Path, tmp_path: Path) -> None:
    data = shutil.copytree(toy_project, tmp_path, dirs_exist_ok=True) / "data"
    others = [row for row in iter_rows(data / "reconstructions/objects") if row["object_id"] != "toy-000"]
    put(data / "reconstructions", OBJECTS, others)
    text = " ".join(Html(run(PARAMS, data)).text.split())
    assert "Whole, reconstructed at once (was not reconstructed)" in text
