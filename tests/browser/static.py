"""A widget on a page without a kernel: written, watched, timed, and shown on every screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dslearn.widgets.base import Explorer

# The bars are 200 ms and 30 frames a second, measured on a quiet machine; a shared one may be half as fast.
FIRST_PAINT_MS, FRAMES_A_SECOND = 400, 15
SCREENS = pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [("wide", 1280, "light"), ("phone", 390, "light"), ("dark", 1280, "dark"), ("phone_dark", 390, "dark")],
)
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Explorer</title><style>body {{ margin: 1rem }}</style><h1>Explorer</h1>{fragment}</html>"""
_NOTE_FIRST_PAINT = """new MutationObserver((_, observer) => {
    if (!document.querySelector("%s")) return;
    observer.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => (window.painted = performance.now())));
}).observe(document, { childList: true, subtree: true, attributes: true })"""


def written(folder: Path, *explorers: Explorer) -> str:
    """The address of a page with these explorers."""
    path = folder / "page.html"
    path.write_text(_PAGE.format(fragment="".join(each.as_html() for each in explorers)), encoding="utf-8")
    return path.as_uri()


@contextmanager
def watched(page: Page, address: str, drawn: str) -> Iterator[Page]:
    """The page once ``drawn`` is visible; nothing is asked of the network and nothing goes to the console."""
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    expect(page.locator(drawn)).to_be_visible()
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def first_paint(chromium: Browser, address: str, drawn: str) -> float:
    """Milliseconds from asking for the page to the first frame in which ``drawn`` is there.

    The best of five: other work on the machine can only add to it.
    """
    times = []
    for _ in range(5):
        page = chromium.new_page()
        page.add_init_script(_NOTE_FIRST_PAINT % drawn)
        page.goto(address)
        times.append(page.wait_for_function("window.painted").json_value())
        page.close()
    print("first paint, ms:", [round(time) for time in times])
    return min(times)


def on_screen(chromium: Browser, address: str, width: int, scheme: str) -> Page:
    """The page on a screen of that width and colour scheme; narrow ones are touched."""
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=width < 500,
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_timeout(800)
    return page
