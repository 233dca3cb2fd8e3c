"""The demo of mixtures in a real browser: switched by mouse and keyboard, and looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import Watched, screenshot, serious
from tests.demos.serving import served

SECONDS = 1000

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served("moe", tmp_path_factory.mktemp("demo")) as demo:
        yield demo.address
    assert "Traceback" not in demo.printed


def opened(address: str, watched: Watched) -> Page:
    watched.page.goto(address)
    expect(watched.page.locator(".routed .text span").first).to_be_visible(timeout=30 * SECONDS)
    return watched.page


def current(page: Page) -> str:
    return page.locator(".routed tr[aria-current] th").inner_text()


def test_a_reader_switches_the_balance_and_sees_the_loads_change(address: str, watched: Watched) -> None:
    page = opened(address, watched)
    screenshot(page, "demo_moe_wide", full_page=True)
    assert serious(page) == []
    assert current(page) == "bias"
    colours = page.locator(".routed .text span").evaluate_all(
        "spans => new Set(spans.map(span => getComputedStyle(span).backgroundColor)).size"
    )
    assert colours >= 10
    balanced = page.locator(".routed tbody td:nth-child(3)").all_inner_texts()
    page.get_by_label("nothing", exact=True).check()
    expect(page.locator(".routed tr[aria-current] th")).to_have_text("nothing")
    assert page.locator(".routed tbody td:nth-child(3)").all_inner_texts() != balanced
    page.get_by_label("capacity 1.2", exact=True).press("Space")
    expect(page.locator(".routed p").first).to_contain_text("of the choices were dropped")
    expect(page.locator(".routed .text .dropped").first).to_be_visible()
    screenshot(page, "demo_moe_dropped", full_page=True)
    watched.assert_quiet()


def test_one_experts_bytes_are_marked_in_ones_own_text(address: str, watched: Watched) -> None:
    page = opened(address, watched)
    page.get_by_label("Text or code").fill("0123456789 " * 5 + "<b>bold</b>")
    page.get_by_role("button", name="Show who takes what").click()
    expect(page.locator(".routed .text")).to_have_text(re.compile(r"<b>bold</b>$"))
    assert page.locator(".routed b").count() == 0
    busiest = page.locator(".routed tbody tr").evaluate_all(
        "rows => rows.filter(row => row.querySelector('.swatch')).map(row => +row.children[2].textContent)"
    )
    number = busiest.index(max(busiest))
    page.get_by_label(str(number), exact=True).check()
    expect(page.locator(".routed .text mark")).to_have_count(max(busiest))
    screenshot(page, "demo_moe_spotlight", full_page=True)
    watched.assert_quiet()


def test_nothing_to_read_is_told_in_words(address: str, watched: Watched) -> None:
    page = opened(address, watched)
    page.get_by_label("Text or code").fill("   ")
    page.get_by_role("button", name="Show who takes what").click()
    expect(page.get_by_text("The text is empty. Write or paste something, or take an example.")).to_be_visible()
    watched.assert_quiet()


@pytest.mark.parametrize(
    ("name", "width", "theme"),
    [("demo_moe_phone", 390, "light"), ("demo_moe_dark", 1280, "dark"), ("demo_moe_phone_dark", 390, "dark")],
)
def test_it_fits_every_screen(address: str, watched: Watched, name: str, width: int, theme: str) -> None:
    watched.page.set_viewport_size({"width": width, "height": 900})
    page = opened(f"{address}?__theme={theme}", watched)
    screenshot(page, name, full_page=True)
    assert serious(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    parts = [part.bounding_box() for part in page.locator(".routed").all()]
    assert all(part and part["x"] >= 0 and part["x"] + part["width"] <= width for part in parts)
    tables = [table.bounding_box() for table in page.locator(".routed table").all()]
    assert all(table and table["x"] + table["width"] <= width for table in tables)
    watched.assert_quiet()
