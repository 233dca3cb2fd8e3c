"""The book in a real browser: every page, at three widths, light and dark; by itself, from the file system."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from tests.book.site import build, sources
from tests.browser.chromium import screenshot, serious

PAGES = [*sources(), "search", "genindex", "py-modindex", "index"]
WIDTHS = {"phone": 390, "tablet": 768, "laptop": 1280}
HEIGHT = 900
SHOWN = {"book/index", "book/claims", "book/glossary", "book/api/attention", "chapters/01_sparse_attention"}
SIDEWAYS = """() => [...document.querySelectorAll('article pre')]
  .filter(block => block.scrollWidth > block.clientWidth + 1).map(block => block.textContent.slice(0, 80))"""

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def site() -> Path:
    return build()


class Watch:
    """What a page asked for and complained of while it was looked at."""

    def __init__(self, page: Page) -> None:
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._request)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def elsewhere(self) -> list[str]:
        return [url for url in self.asked if urlsplit(url).scheme not in ("file", "data", "blob")]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_is_quiet_and_can_be_used_by_everybody(
    chromium: Browser, site: Path, name: str, width: str, theme: str
) -> None:
    viewport = {"width": WIDTHS[width], "height": HEIGHT}
    # Without motion: in the middle of a fade every colour is too pale.
    context = chromium.new_context(viewport=viewport, color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    page = context.new_page()
    watch = Watch(page)
    page.goto((site / f"{name}.html").as_uri(), wait_until="load")
    page.wait_for_selector("h1:visible")
    if name in SHOWN:
        screenshot(page, f"book_{name.replace('/', '_')}_{width}_{theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
    assert width != "laptop" or page.evaluate(SIDEWAYS) == []
    assert watch.complaints == []
    assert watch.elsewhere() == []
    # Colours are the same at every width, and looking at each letter's takes long.
    assert serious(page, colours=width == "laptop") == []
    context.close()


def test_the_line_has_a_good_measure(page: Page, site: Path) -> None:
    page.goto((site / "chapters" / "00_start_here.html").as_uri())
    line = page.evaluate(
        """async () => {
          await document.fonts.ready;
          const text = document.querySelector('#what-this-is > p');
          const style = getComputedStyle(text), canvas = document.createElement('canvas').getContext('2d');
          canvas.font = `${style.fontSize} ${style.fontFamily}`;
          const letters = text.textContent;
          return text.clientWidth / (canvas.measureText(letters).width / letters.length);
        }"""
    )
    print(f"characters a line: {line:.1f}")
    assert 68 <= line <= 76


def test_figures_keep_their_scale_and_shrink_on_a_phone(page: Page, site: Path) -> None:
    page.goto((site / "chapters" / "00_start_here.html").as_uri())
    figures = page.locator(".cell_output img")
    assert figures.count() >= 4
    assert {round(box["width"]) for box in boxes(page)} == {640}
    page.set_viewport_size({"width": 390, "height": HEIGHT})
    shapes = [box["width"] / box["height"] for box in boxes(page)]
    assert all(300 <= box["width"] <= 390 for box in boxes(page))
    drawn = figures.evaluate_all("all => all.map(one => one.naturalWidth / one.naturalHeight)")
    assert shapes == pytest.approx(drawn, rel=0.02)


def boxes(page: Page) -> list[dict[str, float]]:
    found = [figure.bounding_box() for figure in page.locator(".cell_output img").all()]
    return [dict(box) for box in found if box]


def test_search_finds_without_a_server(page: Page, site: Path) -> None:
    page.goto(f"{(site / 'search.html').as_uri()}?q=dense_block_mass")
    expect(page.locator("#search-results li").first).to_be_visible(timeout=10_000)
    assert "api/attention" in (page.locator("#search-results a").first.get_attribute("href") or "")


def test_a_solution_is_folded_until_it_is_asked_for(page: Page, site: Path) -> None:
    page.goto((site / "solutions" / "01_sparse_attention.html").as_uri())
    solution = page.locator("details:has-text('One way to solve it')").first
    code = solution.locator("pre")
    expect(code).to_be_hidden()
    solution.locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(code).to_be_visible()
    screenshot(page, "book_solution_unfolded")


def test_the_pages_own_contents_open_on_a_laptop(page: Page, site: Path) -> None:
    page.goto((site / "chapters" / "01_sparse_attention.html").as_uri())
    contents = page.locator("nav.page-toc")
    expect(contents).to_be_hidden()
    page.locator("button.secondary-toggle").click()
    expect(contents).to_be_visible()
    screenshot(page, "book_contents_of_the_page")
    page.keyboard.press("Escape")
    expect(contents).to_be_hidden()
    page.set_viewport_size({"width": 1600, "height": HEIGHT})
    expect(contents).to_be_visible()


def test_buttons_open_the_learners_copy_and_download_the_exercises(page: Page, site: Path) -> None:
    page.goto((site / "solutions" / "01_sparse_attention.html").as_uri())
    launch = page.locator("a.btn-launch")
    assert launch.get_attribute("href") == "http://127.0.0.1:8888/lab/tree/work/01_sparse_attention.ipynb"
    file = page.locator("a.btn-download").get_attribute("href")
    assert file
    downloaded = (site / "solutions" / file).resolve()
    assert downloaded.read_bytes() == (site.parents[1] / "exercises" / "01_sparse_attention.ipynb").read_bytes()


@pytest.mark.parametrize("name", sources())
def test_without_scripts_a_page_can_still_be_read(chromium: Browser, site: Path, name: str) -> None:
    context = chromium.new_context(java_script_enabled=False, viewport={"width": 1280, "height": HEIGHT})
    page = context.new_page()
    page.goto((site / f"{name}.html").as_uri())
    expect(page.locator("h1").first).to_be_visible()
    expect(page.locator("article p").first).to_be_visible()
    assert all(box["height"] > 50 for box in boxes(page))
    screenshot(page, f"book_without_scripts_{name.replace('/', '_')}")
    context.close()


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_any_static_host_will_do(page: Page, address: str) -> None:
    watch = Watch(page)
    page.goto(f"{address}/")
    page.wait_for_url("**/book/index.html")
    page.get_by_role("link", name="Build it: chapter 01").click()
    expect(page.locator("h1").first).to_contain_text("Sparse attention")
    assert {urlsplit(url).hostname for url in watch.elsewhere()} == {"127.0.0.1"}
    assert watch.complaints == []


def test_the_explorer_of_the_landing_page_is_alive(page: Page, site: Path) -> None:
    page.goto((site / "book" / "index.html").as_uri())
    sentence = page.locator(".dslearn-explorer .sentence")
    expect(sentence).to_contain_text("Finding them took")
    page.locator(".dslearn-explorer").get_by_label("Pattern").select_option(label="dense: every earlier token")
    expect(sentence).not_to_contain_text("Finding them took")
    page.locator(".dslearn-explorer").scroll_into_view_if_needed()
    screenshot(page, "book_explorer")
