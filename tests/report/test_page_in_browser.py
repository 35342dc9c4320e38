"""The pages in headless Chromium, opened from the disk: they play, jump, follow, and ask nobody for anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from report.report_run import GREY, write_run
from report.test_run_pages import HOSTILE

from perception_batch.report.pages import write_index, write_run_page

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, or a skip that says what is missing."""
    required = os.environ.get("PERCEPTION_BATCH_REQUIRE_BROWSER") == "1"
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        if required:
            raise
        pytest.skip(
            "no playwright (pip install playwright; PERCEPTION_BATCH_REQUIRE_BROWSER=1 makes this fail)"
        )
    found = os.environ.get("PERCEPTION_BATCH_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except Error as error:
            if required:
                raise
            pytest.skip(
                f"no Chromium (install one, or name it in PERCEPTION_BATCH_CHROMIUM): {str(error).splitlines()[0]}"
            )
        yield chromium
        chromium.close()


class Watched:
    """A page, and all that it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(viewport={"width": 1300, "height": 1000}, **context)
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("dialog", lambda d: (self.complaints.append(d.message), d.dismiss()))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(path.resolve().as_uri())

    def ready(self) -> Watched:
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self

    def js(self, code: str) -> Any:
        return self.page.evaluate(code)

    def wait(self, code: str) -> None:
        """Until `code` is true; the page's policy forbids Playwright's own way."""
        for _ in range(200):
            if self.js(code):
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"never true: {code}")

    def shown(self, element: str) -> np.ndarray[Any, Any]:
        """(H, W, 3) what an element looks like, BGR."""
        shot = self.page.locator(element).screenshot()
        return np.asarray(cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR))

    def grey(self) -> float:
        """Of the picture that the video shows."""
        return float(self.shown("#film")[60:-60, 60:-60].mean())

    def car(self) -> float:
        """Row of the outline of the blue spot ahead of the vehicle in the bird's-eye view, px."""
        picture = self.shown("#bird").astype(int)
        middle = picture.shape[1] // 2
        ahead = picture[: picture.shape[0] // 2, middle - 6 : middle + 6]
        rows = np.nonzero(ahead[..., 0] - ahead[..., 2] > 110)[0]
        return float(rows.mean())


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run_page(write_run(tmp_path_factory.mktemp("out") / "drive")).page


def test_the_page_opens_plays_and_asks_for_its_video_alone(browser: Any, drive: Path) -> None:
    watched = Watched(browser, drive).ready()
    watched.wait("document.getElementById('film').readyState >= 2")
    watched.page.keyboard.press(" ")
    watched.wait("document.getElementById('film').currentTime > 0.3")
    assert watched.page.inner_text("#play") == "Pause"
    watched.page.keyboard.press(" ")
    watched.wait("document.getElementById('film').paused")
    assert watched.complaints == []
    assert {url.rsplit("/", 1)[-1] for url in watched.asked} == {"report.html", "annotated.mp4"}
    assert all(url.startswith("file:") for url in watched.asked)


def test_the_timeline_jumps_and_everything_follows(browser: Any, drive: Path) -> None:
    watched = Watched(browser, drive).ready()
    watched.wait("document.getElementById('film').readyState >= 2")
    heights = {}
    for step in (2, 12):
        box = watched.page.locator("#slider").bounding_box()
        watched.page.mouse.click(box["x"] + box["width"] * (step + 0.5) / 15, box["y"] + 20)
        watched.wait(f"document.getElementById('slider').getAttribute('aria-valuenow') === '{step}'")
        watched.wait("!document.getElementById('film').seeking")
        at = watched.js("document.getElementById('film').currentTime")
        assert step * 0.2 <= at < (step + 1) * 0.2
        watched.page.wait_for_timeout(300)
        # Limited range: 16..235 of the video is 0..255 of the screen, give or take the coding.
        assert watched.grey() == pytest.approx(GREY[0] + GREY[1] * step, abs=6)
        assert watched.page.inner_text("#now") == f"0:0{step * 0.2:.1f}"
        assert f"{8 + 2 * step:.1f}" in watched.page.inner_text("#nearest")
        heights[step] = watched.car()
    # 20 m farther ahead: the vehicle stands at 0.56 of the height, 50 m (and 10 px) reach to the upper edge.
    height = watched.js("document.getElementById('bird').getBoundingClientRect().height")
    assert heights[2] - heights[12] == pytest.approx(20 * (0.56 * height - 10) / 50, abs=2.5)
    assert watched.complaints == []


def test_keys_and_worst_moments_jump(browser: Any, drive: Path) -> None:
    watched = Watched(browser, drive).ready()
    watched.wait("document.getElementById('film').readyState >= 2")
    now = "document.getElementById('slider').getAttribute('aria-valuenow') === "
    for key, step in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("Shift+ArrowRight", 11),
        ("Home", 0),
        ("End", 14),
    ):
        watched.page.keyboard.press(key)
        watched.wait(f"{now}'{step}'")
    watched.page.locator(".moments button", has_text="lost frames").first.click()
    watched.wait(f"{now}'4'")
    watched.page.keyboard.press("Tab")
    outline = watched.js("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    assert watched.complaints == []


def test_without_a_video_the_clock_runs_all_the_same(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "drive")
    page = write_run_page(run).page
    (run / "annotated.mp4").unlink()  # after the page was made: as when only the page is passed on
    watched = Watched(browser, page).ready()
    watched.wait("document.querySelector('.no-film') !== null")
    watched.page.keyboard.press("ArrowRight")
    watched.page.click("#play")
    watched.wait("Number(document.getElementById('slider').getAttribute('aria-valuenow')) >= 4")
    watched.page.click("#play")
    assert watched.page.inner_text("#play") in ("Play", "Pause")


def test_a_video_in_the_page_plays(browser: Any, tmp_path: Path) -> None:
    run = write_run(tmp_path / "drive")
    page = write_run_page(run, embed_video=True).page
    (run / "annotated.mp4").unlink()
    watched = Watched(browser, page).ready()
    watched.wait("document.getElementById('film').readyState >= 2")
    watched.page.keyboard.press("End")
    watched.wait("document.getElementById('film').currentTime > 2.7")
    assert watched.complaints == []


def test_hostile_names_stay_text_in_both_pages(browser: Any, tmp_path: Path) -> None:
    runs = [
        write_run_page(
            write_run(tmp_path / name, drive=HOSTILE, cameras=(HOSTILE, "b"), labels=(HOSTILE,), video=False)
        )
        for name in ("a", "b")
    ]
    watched = Watched(browser, runs[0].page).ready()
    watched.page.keyboard.press("ArrowRight")
    watched.wait("document.getElementById('nearest').textContent.includes('onerror')")
    assert watched.js("document.querySelectorAll('img[src=x], img[onerror]').length") == 0
    assert watched.complaints == []
    index = Watched(browser, write_index(runs))
    assert index.js("document.querySelectorAll('img').length") == 0
    assert "onerror" in index.page.inner_text("#drives")
    assert index.complaints == []


def test_the_index_sorts_by_any_column(browser: Any, tmp_path: Path) -> None:
    runs = []
    for number, rate in enumerate((9.5, 30.0, 12.0)):
        changes = {"timing": {"wall_s": 5.0, "images_per_s": rate}}
        runs.append(
            write_run_page(
                write_run(tmp_path / f"d{number}", drive=f"d{number}", video=False, changes=changes)
            )
        )
    watched = Watched(browser, write_index(runs))
    order = "[...document.querySelectorAll('#drives tbody a')].map(a => a.textContent).join()"
    head = watched.page.locator("#drives thead button", has_text="images/s")
    head.click()
    assert watched.js(order) == "d0,d2,d1"
    head.click()
    assert watched.js(order) == "d1,d2,d0"
    watched.page.locator("#drives thead button", has_text="drive").first.focus()
    watched.page.keyboard.press("Enter")
    assert watched.js(order) == "d0,d1,d2"
    assert watched.js("document.querySelectorAll('#drives [aria-sort]').length") == 1
    assert watched.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_narrow_page(browser: Any, drive: Path, scheme: str) -> None:
    watched = Watched(browser, drive, color_scheme=scheme).ready()
    for width in (360, 700, 1000, 1600):
        watched.page.set_viewport_size({"width": width, "height": 900})
        watched.page.wait_for_timeout(60)
        assert watched.js("document.documentElement.scrollWidth") <= width
    ink, paper = watched.js(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor].map("
        "c => c.match(/[0-9]+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 765)"
    )
    assert (ink > paper) == (scheme == "dark")
    assert abs(ink - paper) > 0.6
