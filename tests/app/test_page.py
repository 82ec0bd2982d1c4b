"""The page of `partgen app` in a real browser, against the real server: what a user does, one thing after another."""

import base64
import io
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import trimesh
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from pipeline.surface.hierarchy import cut, hierarchy
from tests.app.running import Server
from tests.report.test_report import BROWSERS, SOFTWARE_WEBGL

pytestmark = pytest.mark.slow

READY = "#bench[data-state=ready]"
QUIET = ("GPU stall due to ReadPixels",)
"""What a browser without a graphics card says."""
expect.set_options(timeout=30_000)
HOSTILE = "<img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with no results yet."""
    folder = tmp_path_factory.mktemp("app")
    with Server(folder / "results", folder / "scratch") as running:
        yield running.url.rstrip("/")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"there is no Chromium here ({', '.join(BROWSERS)}) to open the page in")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=list(SOFTWARE_WEBGL))
        yield found
        found.close()


def opened(browser: Browser, address: str, wrong: list[str]) -> Page:
    """The page in a tab of its own; what goes wrong in it is added to `wrong`."""
    page = browser.new_context(viewport={"width": 900, "height": 640}, accept_downloads=True).new_page()
    page.set_default_timeout(90_000)

    def said(kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(known in text for known in QUIET):
            wrong.append(text)

    page.on("console", lambda message: said(message.type, message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


@pytest.fixture(scope="module")
def tab(browser: Browser, server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page with an object of five pieces that was dropped there; nothing may go wrong in it."""
    wrong: list[str] = []
    page = opened(browser, server, wrong)
    file = tmp_path_factory.mktemp("files") / "table.glb"
    write_table(file)
    dropped(page, file)
    page.wait_for_selector("#waiting progress")
    expect(page.get_by_role("heading", name="table.glb").first).to_be_visible()
    page.wait_for_selector(READY)
    yield page
    assert page.evaluate("window.hit") is None
    assert not wrong


def dropped(page: Page, file: Path) -> None:
    """The file is dropped somewhere on the page."""
    data = page.evaluate_handle(
        """([name, text]) => {
          const data = new DataTransfer(), bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          data.items.add(new File([bytes], name));
          return data;
        }""",
        [file.name, base64.b64encode(file.read_bytes()).decode()],
    )
    page.dispatch_event("main", "dragenter", {"dataTransfer": data})
    page.dispatch_event("main", "drop", {"dataTransfer": data})


def write_table(path: Path) -> None:
    """A top of 10 x 10 x 1 on four legs, a node and a material each, of which one has the name of an attack."""
    moved = trimesh.transformations.translation_matrix
    scene = trimesh.Scene()
    boxes = [((10, 1, 10), (0, 6, 0))] + [((1, 6, 1), (x, 2.5, z)) for x in (-4, 4) for z in (-4, 4)]
    for number, (extents, place) in enumerate(boxes):
        mesh = trimesh.creation.box(extents, moved(place))
        colour = (120 + 20 * number, 80, 40, 255)
        material = trimesh.visual.material.PBRMaterial(name=f"wood {number}", baseColorFactor=colour)
        mesh.visual = trimesh.visual.TextureVisuals(material=material)
        scene.add_geometry(mesh, node_name=HOSTILE if number == 0 else f"leg {number}")
    scene.export(path)


def names(page: Page) -> list[str]:
    """Of the parts in the list."""
    return page.locator("#parts .name").all_inner_texts()


def version(page: Page) -> int:
    return int(page.locator("#bench").get_attribute("data-version") or 0)


def changes(page: Page, act: Callable[[], object]) -> None:
    """Waits for another version after `act`."""
    before = version(page)
    act()
    expect(page.locator("#bench")).to_have_attribute("data-version", re.compile(rf"^(?!{before}$)\d+$"))
    page.wait_for_selector(READY)


def pixels(page: Page) -> np.ndarray:
    """What is seen of the 3D view, (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB"))


def row(page: Page, label: int) -> Locator:
    return page.locator(f"#part-{label}")


def in_3d(page: Page, kind: str, number: int) -> tuple[float, float]:
    """Where the 3D view shows the part of a `label`, or a `piece` of the surface, from the window's corner."""
    found = page.evaluate(
        """([kind, number]) => {
          const { stage } = partgen.bench, box = stage.canvas.getBoundingClientRect(), found = [];
          for (let y = 4; y < box.height - 70; y += 10) for (let x = 4; x < box.width; x += 10) {
            const at = { clientX: box.left + x, clientY: box.top + y };
            if (stage.hit(at)?.[kind] === number) found.push([at.clientX, at.clientY]);
          }
          return found[Math.floor(found.length / 2)];
        }""",
        [kind, number],
    )
    return found[0], found[1]


def at_atom(page: Page, atom: int) -> tuple[float, float]:
    """Where the views show a piece, in shares of their side."""
    found: list[float] = page.evaluate(
        """async (atom) => {
          const answer = await fetch(partgen.bench.doc.files.atom_map);
          const image = await createImageBitmap(await answer.blob());
          const paper = new OffscreenCanvas(image.width, image.height).getContext("2d");
          paper.drawImage(image, 0, 0);
          const { data } = paper.getImageData(0, 0, image.width, image.height), found = [];
          for (let at = 0; at < image.width * image.height; at += 1) if (data[4 * at] === atom + 1) found.push(at);
          const at = found[Math.floor(found.length / 2)];
          return [((at % image.width) + 0.5) / image.width, (Math.floor(at / image.width) + 0.5) / image.height];
        }""",
        atom,
    )
    return found[0], found[1]


def test_what_was_dropped_is_shown_in_parts(tab: Page) -> None:
    assert tab.locator("#title").inner_text() == "table"
    assert names(tab)[0].startswith("<img src=x")
    assert tab.locator("#parts [role=option]").count() == len(names(tab)) >= 2
    seen = pixels(tab).astype(int)
    assert (np.abs(seen - seen[5, 5]).max(axis=-1) > 40).mean() > 0.05


def test_the_slider_answers_at_once_and_the_server_follows(tab: Page) -> None:
    slide = """(number) => {
      const slider = document.querySelector("#number");
      slider.value = number;
      slider.dispatchEvent(new Event("input"));
      return [document.querySelectorAll("#parts li").length, partgen.bench.doc.version];
    }"""
    before = version(tab)
    for number in (2, 5):
        assert tab.evaluate(slide, number) == [number, before]
    changes(tab, lambda: None)
    assert len(names(tab)) == 5
    assert version(tab) == before + 1


def test_the_page_cuts_hierarchies_as_the_server_does(tab: Page) -> None:
    rng = np.random.default_rng(0)
    cut_all = """async ([merges, areas]) => {
      const { cut, colourNumbers } = await import("/static/dendrogram.js");
      return [areas.map((_, at) => cut(merges, areas, at + 1)), colourNumbers(merges, areas)];
    }"""
    for count in (2, 3, 9, 40):
        merges, area_N = hierarchy(rng.random((count, count))), rng.random(count)
        cuts, colours = tab.evaluate(cut_all, [merges[:, :2].astype(int).tolist(), area_N.tolist()])
        for number, found in enumerate(cuts, start=1):
            part_N = cut(merges, number)
            order = np.argsort(-np.bincount(part_N, area_N), kind="stable")
            assert found == np.argsort(order)[part_N].tolist()
            first = {min(colour for part, colour in zip(found, colours, strict=True) if part == one) for one in found}
            assert first == set(range(number))  # every part has a colour of its own, and no other number of parts has


def test_parts_are_selected_in_3d_in_the_list_and_in_the_views(tab: Page) -> None:
    tab.mouse.click(*in_3d(tab, "label", 1))
    expect(row(tab, 1)).to_have_attribute("aria-selected", "true")
    row(tab, 2).click()
    row(tab, 3).click(modifiers=["Control"])
    assert tab.locator("#chosen").inner_text() == "2 parts selected"
    tab.locator("#parts").focus()
    tab.keyboard.press("Home")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Space")
    expect(row(tab, 2)).to_have_attribute("aria-selected", "false")
    tab.get_by_role("tab", name="Views").click()
    (atom,) = tab.evaluate("partgen.bench.part(4).atoms")
    grid = tab.locator("#grid").bounding_box()
    assert grid is not None
    x, y = at_atom(tab, atom)
    tab.locator("#grid").click(position={"x": x * grid["width"], "y": y * grid["height"]})
    tab.get_by_role("tab", name="Parts").click()
    expect(row(tab, 4)).to_have_attribute("aria-selected", "true")
    assert tab.locator("#parts [aria-selected=true]").count() == 1


def test_names_looks_and_distances_change(tab: Page) -> None:
    row(tab, 1).dblclick()
    changes(tab, lambda: (tab.keyboard.type("top <b>of</b> it"), tab.keyboard.press("Enter")))
    assert names(tab)[0].startswith("top")
    before = pixels(tab)
    for act in (
        lambda: tab.locator("#explode").fill("0.8"),
        lambda: tab.get_by_role("radio", name="Materials").check(),
        lambda: tab.locator("#wire").click(),
        lambda: tab.locator("#compare").click(),
        lambda: tab.locator("#reset").click(),
        lambda: row(tab, 1).locator(".eye").click(),
        lambda: tab.locator("[data-act=all]").click(),
    ):
        act()
        tab.wait_for_timeout(400)
        after = pixels(tab)
        assert (after != before).any(), act
        before = after
    tab.get_by_role("radio", name="Parts").check()
    row(tab, 2).click()
    changes(tab, lambda: tab.locator("#colour").fill("#123456"))
    assert tab.evaluate("partgen.bench.part(2).colour") == "#123456"


def test_parts_are_merged_split_and_taken_out_and_all_is_undone(tab: Page) -> None:
    row(tab, 2).click()
    row(tab, 3).click(modifiers=["Control"])
    changes(tab, tab.locator("[data-act=merge]").click)
    assert len(names(tab)) == 4
    changes(tab, tab.locator("[data-act=split]").click)
    assert len(names(tab)) == 5
    for _ in range(2):
        tab.locator("#parts").focus()
        changes(tab, lambda: tab.keyboard.press("Control+z"))
    assert len(names(tab)) == 5
    changes(tab, tab.get_by_role("button", name="Redo").click)
    assert len(names(tab)) == 4

    merged = next(part for part in tab.evaluate("partgen.bench.doc.parts") if len(part["atoms"]) == 2)
    tab.get_by_role("tab", name="Views").click()
    tab.locator("#seed-views").click()
    grid = tab.locator("#grid").bounding_box()
    assert grid is not None
    x, y = at_atom(tab, merged["atoms"][0])
    click = {"x": x * grid["width"], "y": y * grid["height"]}
    changes(tab, lambda: tab.locator("#grid").click(position=click))  # type: ignore[arg-type]
    tab.get_by_role("tab", name="Parts").click()
    assert len(names(tab)) == 5
    assert tab.locator("#parts [aria-selected=true]").count() == 1
    changes(tab, tab.get_by_role("button", name="Undo").click)

    tab.locator("#seed").click()
    at = in_3d(tab, "piece", merged["atoms"][0])
    changes(tab, lambda: tab.mouse.click(*at))
    assert len(names(tab)) == 5


def test_a_download_has_the_parts_the_licence_and_what_was_done(tab: Page, tmp_path: Path) -> None:
    tab.get_by_role("button", name="Download").click()
    tab.get_by_label("STL").check()
    with tab.expect_download() as download:
        tab.locator("#download [value=go]").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        files = {Path(name).name for name in archive.namelist()}
    assert {"object.glb", "object.stl", "LICENCE.txt", "result.json"} <= files
    tab.get_by_role("tab", name="History").click()
    assert "partgen decompose" in tab.locator("#shell").inner_text()
    assert "merge" in tab.locator("#python").inner_text()
    tab.get_by_role("tab", name="Parts").click()


def test_of_two_tabs_the_later_one_is_told(tab: Page, browser: Browser, server: str) -> None:
    said: list[str] = []
    other = opened(browser, f"{server}/#/objects/{tab.evaluate('partgen.bench.doc.id')}", said)
    other.wait_for_selector(READY)
    row(other, 1).click()
    row(tab, 1).dblclick()
    changes(tab, lambda: (tab.keyboard.type("board"), tab.keyboard.press("Enter")))
    row(other, 1).dblclick()
    changes(other, lambda: (other.keyboard.type("plank"), other.keyboard.press("Enter")))
    expect(other.get_by_role("alert")).to_contain_text("changed meanwhile")
    assert names(other) == names(tab)
    assert names(other)[0] == "board"
    assert [one for one in said if "409" not in one] == []  # browsers name each refusal
    other.context.close()


def test_the_keyboard_alone_is_enough(browser: Browser, server: str) -> None:
    wrong: list[str] = []
    page = opened(browser, server, wrong)

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} is not reached")

    tab_to("#gallery a")
    page.keyboard.press("Enter")
    page.wait_for_selector(READY)
    tab_to("#canvas")
    before = pixels(page)
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(500)
    assert (pixels(page) != before).any()
    tab_to("#tab-parts")
    page.keyboard.press("ArrowRight")
    tab_to("#grid")
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    tab_to("body, #skip")
    tab_to("#tab-views")
    page.keyboard.press("ArrowLeft")
    tab_to("#parts")
    page.keyboard.press("Control+a")
    assert page.locator("#parts [aria-selected=false]").count() == 0
    page.keyboard.press("Escape")
    assert page.locator("#parts [aria-selected=true]").count() == 0
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    assert not wrong
    page.context.close()


def test_a_page_that_is_loaded_again_finds_its_job(browser: Browser, server: str) -> None:
    wrong: list[str] = []
    page = opened(browser, server, wrong)
    page.locator("#samples button", has_text="Butter").click()
    page.wait_for_selector("#waiting .job")
    page.reload()
    page.wait_for_selector(READY)
    assert page.locator("#title").inner_text() == "butter"
    page.goto(f"{server}/#/")
    page.locator("#gallery li", has_text="butter").hover()
    page.get_by_role("button", name="Delete butter").click()
    page.locator("#confirm [value=yes]").click()
    expect(page.locator("#gallery li")).to_have_count(1)
    assert not wrong
    page.context.close()


def test_a_part_is_replaced_by_text(tab: Page) -> None:
    changes(tab, lambda: tab.locator("#number").fill("2"))
    row(tab, 2).click()
    tab.locator("#edit-text").fill("a red cushion")
    tab.locator("#edit-go").click()
    tab.locator("#confirm [value=yes]").click()
    tab.wait_for_selector("#running progress")
    expect(tab.locator("[data-act=rename]")).to_be_disabled()
    before = version(tab)
    tab.wait_for_selector(f"#bench[data-version]:not([data-version='{before}'])")
    assert any("cushion" in name for name in names(tab))
    assert tab.locator("#number-box").is_hidden()
    changes(tab, tab.get_by_role("button", name="Undo").click)
    assert tab.locator("#number-box").is_visible()


def test_a_picture_is_cut_out_and_its_job_cancelled(browser: Browser, server: str, tmp_path: Path) -> None:
    wrong: list[str] = []
    page = opened(browser, server, wrong)
    picture = Image.new("RGB", (120, 90), "white")
    ImageDraw.Draw(picture).ellipse((30, 10, 90, 80), fill="brown")
    picture.save(tmp_path / "cushion.png")
    page.set_input_files("#file", tmp_path / "cushion.png")
    page.wait_for_selector("#cutout[open]")
    page.get_by_label("Erase").check()
    box = page.locator("#brush").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 4, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Go on").click()
    page.wait_for_selector("#waiting .job")
    began = time.monotonic()
    page.get_by_role("button", name=re.compile("Cancel")).last.click()
    page.wait_for_selector("#waiting [data-state=cancelled]")
    assert time.monotonic() - began < 4  # of which 2 are the server's
    assert not wrong
    page.context.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window(tab: Page, width: int, scheme: Literal["light", "dark"]) -> None:
    tab.set_viewport_size({"width": width, "height": 844})
    tab.emulate_media(color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    assert tab.locator("#parts").is_visible()
    background = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (np.mean([int(value) for value in background[4:-1].split(",")]) < 60) == (scheme == "dark")
