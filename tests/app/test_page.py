"""The page of `partgen app` in a real browser, against the real server: what a user does, one thing after another."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import trimesh
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.report.test_report import BROWSERS, SOFTWARE_WEBGL
from tests.toy_project import ROOT

pytestmark = pytest.mark.slow

READY = "#bench[data-state=ready]"
QUIET = ("GPU stall due to ReadPixels",)
"""What a browser without a graphics card says."""
HOSTILE = "<img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with no results yet."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    folder = tmp_path_factory.mktemp("app")
    command = [sys.executable, "-m", "stages.cli", "app", "--no-browser", "--port", str(port)]
    process = subprocess.Popen([*command, "--results", str(folder / "results")], cwd=ROOT, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{address}/api/v1/about")
                break
            time.sleep(0.1)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


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
    page.set_default_timeout(30_000)

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
    page.set_input_files("#file", file)
    page.wait_for_selector("#waiting progress")
    expect(page.get_by_role("heading", name="table.glb").first).to_be_visible()
    page.wait_for_selector(READY)
    yield page
    assert page.evaluate("window.hit") is None
    assert not wrong


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


def changes(page: Page, act: object, by: int = 1) -> None:
    """Waits for a new version after `act`."""
    before = version(page)
    assert callable(act)
    act()
    expect(page.locator("#bench")).to_have_attribute("data-version", re.compile(rf"^(?!{before}$)\d+$"))
    page.wait_for_selector(READY)


def pixels(page: Page) -> np.ndarray:
    """What is seen of the 3D view, (H, W, 3) uint8."""
    return np.asarray(Image.open(__import__("io").BytesIO(page.locator("#canvas").screenshot())).convert("RGB"))
